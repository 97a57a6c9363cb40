"""The training loop: batches, early stopping, checkpoints, resume."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.errors import DataError, RunError, TrainingError, one_line
from bm3_pyg.eval import RankingTask, rank
from bm3_pyg.eval.cold import held_out_scorer, held_out_task, is_cold_split
from bm3_pyg.eval.ranking import check_sizes
from bm3_pyg.eval.users import write_user_metrics
from bm3_pyg.optim import DeferredAdam, RowTable, build_optimizer, check_trainable
from bm3_pyg.protocols import (
    Losses,
    Recommender,
    Scorer,
    draws_per_epoch,
    ranking_mode,
    takes_generator,
    to_train,
    training_mode,
    trains,
)
from bm3_pyg.train.checkpoint import check_optimizer, load_weights
from bm3_pyg.train.environment import peak_memory_mb
from bm3_pyg.train.interrupt import StopFlag, stop_flag
from bm3_pyg.train.numbers import RunNumbers
from bm3_pyg.train.progress import Progress
from bm3_pyg.train.run import RunFolder
from bm3_pyg.train.settings import TrainConfig

SELECTION = "recall@20"
UNMEASURED = ("nothing is selected by it, the last epoch is kept", "nothing is tested")
Callback = Callable[[dict[str, Any]], None]


@dataclass
class TrainResult:
    """What training found. ``model`` holds the weights of ``best_epoch`` when :func:`fit` returns.

    ``val`` and ``test`` are the metrics of the selected epoch, empty where the split has no interactions;
    ``history`` has one record an epoch: losses, validation metrics, seconds, peak memory.
    """

    best_epoch: int
    val: dict[str, float]
    test: dict[str, float]
    history: list[dict[str, Any]]
    out: Path | None


@dataclass
class State:
    """Where training stands, between two steps."""

    epoch: int = 0
    step: int = 0
    order: Tensor | None = None
    sums: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    without_gain: int = 0
    seconds: float = 0.0


def fit(
    model: nn.Module,
    data: HeteroData,
    config: TrainConfig | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    verbose: bool = True,
    command: Sequence[str] = (),
) -> TrainResult:
    """Train ``model`` on the training interactions of ``data``, select by validation Recall@20, test once.

    Args:
        model: a :class:`~bm3_pyg.protocols.Trainable` module; it trains on the device it is on, in training mode
            (submodules in eval mode stay so if the model itself is in training mode), and has its modes back
            afterwards. Of a module from ``torch.compile`` the one inside is trained. A recommender without a loss or
            without parameters to train is evaluated as it is, as epoch 0, and makes the same run but for last.pt.
            Random numbers are the run's own where ``model.loss`` takes ``generator``, as those of this package do, so
            that runs in several threads do not disturb each other. What else is drawn comes from PyTorch's global
            ones, seeded for the run and put back afterwards; in other threads than the main one it is refused.
        data: the dataset. Where no held-out item has training interactions (``split="cold-items"``), those items are
            ranked among themselves, by their features if the model can
            (:func:`bm3_pyg.eval.cold.with_cold_items`).
        config: settings; the published ones by default.
        out: folder of the run: config.yaml, environment.json, history.jsonl, best.pt, last.pt, metrics.json, and
            what :func:`bm3_pyg.eval.users.write_user_metrics` keeps of the test. Without it nothing is written.
        resume: continue the run in ``out`` where its last checkpoint left it. On a CPU the result is bit-identical to
            that of an uninterrupted run where the type of processor, the versions, the number of threads and the
            kernels (``BM3_KERNELS``) are the same, else it is the same but for rounding. Only ``max_epochs``,
            ``min_epochs``, ``patience`` and ``checkpoint_seconds`` may differ from the first call.
        callbacks: functions called with each epoch's record.
        verbose: show a progress bar on a terminal, lines elsewhere.
        command: the command line that the run was started with, for its environment.json; recorded, not obeyed.

    Returns:
        The result; ``model`` then holds the selected weights.

    Raises:
        ConfigError: if ``model`` is no recommender, has parameters but no loss, in half precision or made in inference
            mode, or draws from PyTorch's global random numbers outside the main thread.
        RunError: if ``out`` exists and ``resume`` is false, or belongs to another run.
        WriteError: if ``out`` cannot be written, for example because the disk is full; what was saved before stays.
        TrainingError: if the loss is not finite; the checkpoints before it stay.
        DataError: if there is no training interaction, or nobody to rank for in a split that is not empty.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the state is saved in ``out``.
    """
    config = config or TrainConfig()
    model = to_train(model)
    check_trainable(model)
    opened = nullcontext() if out is None else RunFolder.open(Path(out), model, data, config, resume, command)
    with opened as folder, torch.inference_mode(False), torch.enable_grad():
        return _run(model, data, config, folder, callbacks, verbose)


def _run(
    model: nn.Module,
    data: HeteroData,
    config: TrainConfig,
    folder: RunFolder | None,
    callbacks: Sequence[Callback],
    verbose: bool,
) -> TrainResult:
    """The run, in the folder that is held for it."""
    training = edges_of(data, "train")
    check_sizes(model, data)
    if training.size(1) == 0:
        raise DataError("dataset: no training interactions")
    tasks = [
        held_out_task(data, split, config.mask) if edges_of(data, split).size(1) else None for split in ("val", "test")
    ]
    for split, task, left_out in zip(("validation", "test"), tasks, UNMEASURED, strict=True):
        if task is None:
            name = getattr(data, "name", "dataset")
            logging.getLogger("bm3_pyg").warning("%s: no %s interactions: %s", name, split, left_out)
    if not trains(model):
        return _without_training(model, data, tasks, config.mask, folder, callbacks)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    loss: Callable[..., Losses] = model.loss  # type: ignore[assignment]
    with (
        RunNumbers(config.seed, device, shares=not takes_generator(loss)) as numbers,
        training_mode(model),
    ):
        loop = _Loop(model, data, config, tasks, device, numbers, folder, callbacks, verbose)
        try:
            with stop_flag() if folder else nullcontext(StopFlag()) as flag:
                if folder is not None:
                    loop.begin(training.size(1))
                loop.run(training, flag)
            return loop.finish()
        finally:
            loop.close()


def _without_training(
    model: Any,
    data: HeteroData,
    tasks: Sequence[RankingTask | None],
    mask: str,
    folder: RunFolder | None,
    callbacks: Sequence[Callback],
) -> TrainResult:
    """The run of a model that has nothing to train: one record, of epoch 0."""
    device = next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))
    record: dict[str, Any] = {"epoch": 0, "loss": {}, "train_seconds": 0.0}
    validation, test_task = tasks
    if validation is not None:
        started = time.perf_counter()
        record["val"] = _ranked(model, validation)
        record["eval_seconds"] = time.perf_counter() - started
    record["peak_memory_mb"] = peak_memory_mb(device)
    test = {} if test_task is None else _ranked(model, test_task)
    result = TrainResult(0, record.get("val", {}), test, [record], folder.path if folder else None)
    if folder is not None:
        folder.begin()
        folder.write_history([record])
        folder.save_best(model.state_dict(), 0)
        write_user_metrics(model, data, folder.path, mask)
        folder.write_metrics(0, result.val, result.test)
    for callback in callbacks:
        callback(record)
    return result


def _ranked(model: Recommender, task: RankingTask) -> dict[str, float]:
    with ranking_mode(model):
        return rank(model.scorer(), task)


class _Loop:
    """One run of :func:`fit`: the state, and what acts on it."""

    def __init__(
        self,
        model: Any,
        data: HeteroData,
        config: TrainConfig,
        tasks: Sequence[RankingTask | None],
        device: torch.device,
        numbers: RunNumbers,
        folder: RunFolder | None,
        callbacks: Sequence[Callback],
        verbose: bool,
    ) -> None:
        self.model = model
        self.config = config
        self.folder = folder
        self.callbacks = callbacks
        self.device = device
        self.numbers = numbers
        self.loss: Callable[..., Losses] = model.loss
        if takes_generator(model.loss):
            self.loss = partial(model.loss, generator=numbers.generator)
        self.optimizer = build_optimizer(model, lr=config.lr)
        self.validation, self.test = tasks
        self.data = data
        # Asked once: at every evaluation it would cost a pass over the interactions.
        self.scorer: Callable[[], Scorer] = (
            partial(held_out_scorer, model, data) if is_cold_split(data) else model.scorer
        )
        self.state = State()
        self.history: list[dict[str, Any]] = []
        self.best_weights: dict[str, Tensor] = {}
        self.saved_at = time.monotonic()
        self.progress = Progress(config.max_epochs, verbose)

    def run(self, training: Tensor, flag: StopFlag) -> None:
        if self.folder is not None and not self.state.epoch and not self.state.step:
            self.save()
        if self._is_over():
            self._evaluate_late()
        users, items = training.to(self.device)
        while not self._is_over():
            started, before = time.perf_counter(), self.state.seconds
            if not self.model.training:  # a callback may have left it so
                self.model.train()
            for batch in self._batches(users.numel()):
                self._step(users[batch], items[batch])
                if flag.set:
                    self.state.seconds = before + time.perf_counter() - started
                    self._interrupted()
            losses = self._mean_losses()
            self._end_epoch(losses, before + time.perf_counter() - started)
            if flag.set:
                self._interrupted()
        if self.folder is not None:
            self.save()
            if flag.set:
                raise KeyboardInterrupt(f"stopped before the test; resume {self.folder.path} to go on")

    def finish(self) -> TrainResult:
        """Load the selected weights, test them, and write the result. All else is written: it may end at any moment."""
        if self.folder is not None:
            self.best_weights = self.folder.load_best(self.device, self.state.best_epoch)
            load_weights(self.model, self.best_weights, self.folder.path / "best.pt")
        else:
            self.model.load_state_dict(self.best_weights)
        test = {} if self.test is None else self._rank(self.test)
        result = TrainResult(
            self.state.best_epoch, self.state.best, test, self.history, self.folder.path if self.folder else None
        )
        if self.folder is not None:
            write_user_metrics(self.model, self.data, self.folder.path, self.config.mask)
            self.folder.write_metrics(result.best_epoch, result.val, result.test)
        return result

    def close(self) -> None:
        """Leave the model a plain module again, whatever happened."""
        self.progress.close()
        if isinstance(self.optimizer, DeferredAdam):
            self.optimizer.detach()

    def save(self) -> None:
        """Write everything needed to go on from here, rows that wait for their update as they are."""
        assert self.folder is not None
        self.folder.save_last(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "state": asdict(self.state),
                "evaluated": bool(self.history) and "val" in self.history[-1],
                **self.numbers.state_dict(),
            }
        )
        self.saved_at = time.monotonic()

    def begin(self, count: int) -> None:
        """Take up the state of last.pt, if there is one, of a run on ``count`` interactions, and then the folder."""
        assert self.folder is not None
        if (last := self.folder.load_last(self.device)) is not None:
            self._restore(last, count)
        self.history = self.folder.begin(last)
        self.progress.resume(self.history)

    def _restore(self, checkpoint: dict[str, Any], count: int) -> None:
        """Take up the state of last.pt."""
        assert self.folder is not None
        path = self.folder.path / "last.pt"
        state, steps = State(**checkpoint["state"]), math.ceil(count / self.config.batch_size)
        if state.step > steps or (state.order is not None and not _is_permutation(state.order, count)):
            raise RunError(f"{path}: state: not that of an epoch of {count:,} interactions in {steps:,} steps")
        load_weights(self.model, checkpoint["model"], path)
        check_optimizer(self.optimizer, checkpoint["optimizer"], state.epoch * steps + state.step, path)
        try:
            self.numbers.load_state_dict(checkpoint)
        except RuntimeError as error:
            raise RunError(f"{path}: begun on another device ({one_line(error)})") from error
        begun = state.epoch + (state.step > 0)
        if self.config.max_epochs < begun:
            raise RunError(
                f"{self.folder.path}: max_epochs: got {self.config.max_epochs}, but epoch {begun} has begun there; "
                f"expected at least {begun}"
            )
        self.state = state

    def _evaluate_late(self) -> None:
        """Epochs end earlier than the run was begun with: the last one is evaluated too."""
        ended = self.state.epoch == self.config.max_epochs and not self.state.step
        if self.validation is not None and ended and "val" not in self.history[-1]:
            self._evaluate(self.history[-1], self.validation)
            if self.folder is not None:
                self.folder.write_history(self.history)

    def _evaluate(self, record: dict[str, Any], task: RankingTask) -> None:
        started = time.perf_counter()
        record["val"] = self._rank(task)
        record["eval_seconds"] = time.perf_counter() - started
        self._select(record["val"])

    def _is_over(self) -> bool:
        state, config = self.state, self.config
        stopped = state.without_gain >= config.patience and state.epoch >= config.min_epochs
        return state.epoch >= config.max_epochs or stopped

    def _batches(self, count: int) -> Iterator[Tensor]:
        """Positions of the interactions of each step left in this epoch."""
        if self.state.order is None:
            generator = self.numbers.generator
            self.state.order = torch.randperm(count, generator=generator, device=generator.device)
            if draws_per_epoch(self.model):
                start: Callable[..., None] = self.model.start_epoch
                with self.numbers.drawing():
                    start(generator=generator) if takes_generator(start) else start()
        batches = self.state.order.to(self.device).split(self.config.batch_size)
        for batch in batches[self.state.step :]:
            yield batch
            self.progress.step(self.state.step, len(batches))

    def _rank(self, task: RankingTask) -> dict[str, float]:
        with ranking_mode(self.model):
            return rank(self.scorer(), task)

    def _step(self, users: Tensor, items: Tensor) -> None:
        with self.numbers.drawing():
            losses = self.loss(users, items)
            losses.total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        for name, value in losses._asdict().items():
            total = self.state.sums.get(name)
            weighted = value.detach().double() * users.numel()
            self.state.sums[name] = weighted if total is None else total + weighted
        self.state.step += 1

    def _mean_losses(self) -> dict[str, float]:
        """Mean of each loss over the interactions of this epoch so far."""
        assert self.state.order is not None
        count = min(self.state.step * self.config.batch_size, self.state.order.numel())
        losses = {name: float(total) / count for name, total in self.state.sums.items()}
        if not all(math.isfinite(value) for value in losses.values()):
            found = ", ".join(f"{name} {value:g}" for name, value in losses.items())
            raise TrainingError(f"epoch {self.state.epoch + 1}: loss is not finite ({found}){self._advice()}")
        return losses

    def _advice(self) -> str:
        kept = "" if self.folder is None else f"; {self.folder.path / 'last.pt'} keeps the last good state"
        return f", expected finite numbers; try an lr below {self.config.lr:g}{kept}"

    def _dense_parameters(self) -> Iterator[Tensor]:
        """All but the row tables, whose rows the next batches' losses speak for."""
        tables = {id(module.stored) for module in self.model.modules() if isinstance(module, RowTable)}
        return (parameter for parameter in self.model.parameters() if id(parameter) not in tables)

    def _end_epoch(self, losses: dict[str, float], seconds: float) -> None:
        if not all(bool(parameter.isfinite().all()) for parameter in self._dense_parameters()):
            raise TrainingError(
                f"epoch {self.state.epoch + 1}: weights are not finite after its last step{self._advice()}"
            )
        state = self.state
        state.epoch, state.step, state.order, state.sums, state.seconds = state.epoch + 1, 0, None, {}, 0.0
        record: dict[str, Any] = {"epoch": state.epoch, "loss": losses, "train_seconds": seconds}
        last = state.epoch == self.config.max_epochs
        if self.validation is not None and (state.epoch % self.config.eval_every == 0 or last):
            self._evaluate(record, self.validation)
        elif self.validation is None:
            self._select({})
        record["peak_memory_mb"] = peak_memory_mb(self.device)
        self.history.append(record)
        if self.folder is not None:
            self.folder.append_history(record)
            if time.monotonic() - self.saved_at >= self.config.checkpoint_seconds:
                self.save()
        self.progress.epoch(record, state.best_epoch, state.best)
        for callback in self.callbacks:
            callback(record)

    def _select(self, val: dict[str, float]) -> None:
        """Keep this epoch's weights if it is the best so far, or if there is nothing to select by."""
        state = self.state
        if val and state.best and val[SELECTION] <= state.best[SELECTION]:
            state.without_gain += 1
            return
        state.best_epoch, state.best, state.without_gain = state.epoch, val, 0
        if self.folder is not None:
            self.folder.save_best(self.model.state_dict(), state.epoch)
        else:
            self.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def _interrupted(self) -> None:
        assert self.folder is not None
        if self.state.step:
            self._mean_losses()
        self.save()
        raise KeyboardInterrupt(f"stopped in epoch {self.state.epoch + 1}; resume {self.folder.path} to go on")


def _is_permutation(order: Tensor, count: int) -> bool:
    return order.numel() == count and bool((order.sort().values == torch.arange(count, device=order.device)).all())
