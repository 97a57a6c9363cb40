"""A training run: epochs, validation and selection in turn, what is written of them, and the test at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of, modalities
from bm3_pyg.data.edges import count
from bm3_pyg.errors import DataError, RunError
from bm3_pyg.eval.held_out import HeldOut
from bm3_pyg.eval.ranking import Ranking
from bm3_pyg.eval.tasks import check_sizes
from bm3_pyg.eval.users import write_ranking
from bm3_pyg.optim import check_trainable
from bm3_pyg.protocols import takes_generator, to_train, training_mode, trains
from bm3_pyg.timeline import part, recorded
from bm3_pyg.train.early_stopping import EarlyStopping
from bm3_pyg.train.environment import peak_memory_mb
from bm3_pyg.train.epochs import Epochs
from bm3_pyg.train.interrupt import StopFlag, stop_flag
from bm3_pyg.train.numbers import RunNumbers
from bm3_pyg.train.progress import Progress
from bm3_pyg.train.run import RunFolder
from bm3_pyg.train.settings import TrainConfig
from bm3_pyg.waiting import waiting

UNMEASURED = {
    "val": "no validation interactions: nothing is selected by it, the last epoch is kept",
    "test": "no test interactions: nothing is tested",
}
Callback = Callable[[dict[str, Any]], None]


@dataclass
class TrainResult:
    """The outcome of training. The model holds the weights of ``best_epoch`` when :func:`fit` returns, see there.

    ``val`` and ``test`` are the metrics of the selected epoch, empty where the split has no interactions;
    ``history`` has one record an epoch: losses, validation metrics, seconds, peak memory.
    """

    best_epoch: int
    val: dict[str, float]
    test: dict[str, float]
    history: list[dict[str, Any]]
    out: Path | None


def fit(
    model: nn.Module,
    data: HeteroData,
    config: TrainConfig | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    verbose: bool = True,
    command: Sequence[str] = (),
    keep_features: bool = True,
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
            ``min_epochs``, ``patience`` and ``checkpoint_seconds`` may differ from the first call. A model that kept a
            part of its features (see below) is not trained further: resume with a new one.
        callbacks: functions called with each epoch's record.
        verbose: show a progress bar on a terminal, lines elsewhere.
        command: the command line that the run was started with, for its environment.json; recorded, not obeyed.
        keep_features: if false, the item features are taken out of ``data`` before training: the model has its own, so
            large ones are not held twice.

    Returns:
        The result; ``model`` then holds the selected weights. With ``out``, as :func:`bm3_pyg.load_run` gives it: of
        trained features that no score is computed from, it has the rows of items without training interactions, unless
        ``config.save_features``. Without ``out`` it is whole.

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
    trainee: Any = to_train(model)
    check_trainable(trainee)
    opened = nullcontext() if out is None else RunFolder.open(Path(out), trainee, data, config, resume, command)
    with recorded(), opened as folder, torch.inference_mode(False), torch.enable_grad():
        training = edges_of(data, "train")
        check_sizes(trainee, data)
        if training.size(1) == 0:
            raise DataError("dataset: no training interactions")
        if not keep_features:
            _drop_features(data)
        with part("build"):
            held_out = HeldOut(trainee, data, config.mask)
        for split, left_out in UNMEASURED.items():
            if split not in held_out.tasks:
                logging.getLogger("bm3_pyg").warning("%s: %s", getattr(data, "name", "dataset"), left_out)
        if not trains(trainee):
            return _without_training(held_out, folder, callbacks)
        return _train(held_out, training, config, folder, callbacks, verbose)


def _drop_features(data: HeteroData) -> None:
    data["item"].num_nodes = count(data, "item")  # which PyG may know from the features alone
    for name in modalities(data):
        del data["item"][name]


def _train(
    held_out: HeldOut,
    training: Tensor,
    config: TrainConfig,
    folder: RunFolder | None,
    callbacks: Sequence[Callback],
    verbose: bool,
) -> TrainResult:
    """The run of a model on the interactions ``training`` [2, E], in the folder that is held for it."""
    model = held_out.model
    device = next(model.parameters()).device
    last = None if folder is None else folder.path / "last.pt"
    with (
        RunNumbers(config.seed, device, shares=not takes_generator(model.loss)) as numbers,
        training_mode(model),
        closing(Epochs(model, training.to(device), config, numbers, last)) as epochs,
        closing(Progress(config.max_epochs, verbose)) as progress,
    ):
        stopping = EarlyStopping(model, config, folder)
        loop = _Loop(config, held_out, epochs, stopping, folder, progress, callbacks)
        with stop_flag() if folder else nullcontext(StopFlag()) as stop:
            loop.run(stop)
        stopping.load_best()
        with part("rank"), waiting("ranking the test split"):
            test = held_out.ranking("test")
        return _tested(test, held_out, folder, stopping.best_epoch, stopping.best, loop.history)


@dataclass
class _Loop:
    """The epochs of one run in turn, the evaluation of each, and what is written of them."""

    config: TrainConfig
    held_out: HeldOut
    epochs: Epochs
    stopping: EarlyStopping
    folder: RunFolder | None
    progress: Progress
    callbacks: Sequence[Callback]
    history: list[dict[str, Any]] = field(default_factory=list)
    saved_at: float = field(default_factory=time.monotonic)

    def run(self, stop: StopFlag) -> None:
        """Train to the end, or until ``stop`` is set: then all is saved, and a KeyboardInterrupt raised."""
        if self.folder is not None:
            self._begin(self.folder)
        while not self.stopping.ends_after(self.epochs.position.epoch):
            with part("train"):
                losses = self.epochs.advance(stop, self.progress.step)
            if not stop.set:
                self._end_epoch(losses)
            if stop.set:
                self._save()
                raise self._stopped(f"in epoch {self.epochs.position.epoch + 1}")
        self._save()
        if stop.set:
            raise self._stopped("before the test")

    def _begin(self, folder: RunFolder) -> None:
        """Take up the state of last.pt, if there is one, and then the folder."""
        last = folder.load_last(next(self.epochs.model.parameters()).device)
        if last is not None:
            self._restore(last, folder.path)
        self.history = folder.begin(last)
        self.progress.resume(self.history)
        position = self.epochs.position
        if not position.epoch and not position.step:
            self._save()
        # Epochs may end elsewhere than the run was begun with: the last one is evaluated all the same.
        ends = position.epoch == self.config.max_epochs and not position.step
        if ends and "val" in self.held_out.tasks and "val" not in self.history[-1]:
            self._evaluate(self.history[-1])
            folder.write_history(self.history)

    def _restore(self, last: dict[str, Any], folder: Path) -> None:
        """Take up the state of last.pt."""
        self.epochs.load_state_dict(last, folder / "last.pt")
        self.stopping.load_state_dict(last["state"])
        position = self.epochs.position
        begun = position.epoch + (position.step > 0)
        if self.config.max_epochs < begun:
            raise RunError(
                f"{folder}: max_epochs: got {self.config.max_epochs}, but epoch {begun} has begun there; "
                f"expected at least {begun}"
            )

    def _end_epoch(self, losses: dict[str, float]) -> None:
        seconds = self.epochs.position.seconds
        with part("train"):
            self.epochs.end()
        epoch = self.epochs.position.epoch
        record: dict[str, Any] = {"epoch": epoch, "loss": losses, "train_seconds": seconds}
        if "val" not in self.held_out.tasks:
            self.stopping.consider(epoch, {})
        elif epoch % self.config.eval_every == 0 or epoch == self.config.max_epochs:
            self._evaluate(record)
        record["peak_memory_mb"] = peak_memory_mb(self.epochs.users.device)
        self.history.append(record)
        if self.folder is not None:
            self.folder.append_history(record)
            if time.monotonic() - self.saved_at >= self.config.checkpoint_seconds:
                self._save()
        self.progress.epoch(record, self.stopping.best_epoch, self.stopping.best)
        for callback in self.callbacks:
            callback(record)

    def _evaluate(self, record: dict[str, Any]) -> None:
        _validate(self.held_out, record)
        self.stopping.consider(record["epoch"], record["val"])

    def _save(self) -> None:
        """Write last.pt, if there is a folder."""
        if self.folder is None:
            return
        last = self.epochs.state_dict()
        last["state"] |= self.stopping.state_dict()
        self.folder.save_last({**last, "evaluated": bool(self.history) and "val" in self.history[-1]})
        self.saved_at = time.monotonic()

    def _stopped(self, where: str) -> KeyboardInterrupt:
        """The interrupt, once all that is saved is on the disk."""
        assert self.folder is not None
        self.folder.write_seconds()
        return KeyboardInterrupt(f"stopped {where}; resume {self.folder.path} to go on")


def _without_training(held_out: HeldOut, folder: RunFolder | None, callbacks: Sequence[Callback]) -> TrainResult:
    """The run of a model that has nothing to train: one record, of epoch 0."""
    weights = chain(held_out.model.parameters(), held_out.model.buffers())
    device = next((tensor.device for tensor in weights), torch.device("cpu"))
    record: dict[str, Any] = {"epoch": 0, "loss": {}, "train_seconds": 0.0}
    if "val" in held_out.tasks:
        _validate(held_out, record)
    record["peak_memory_mb"] = peak_memory_mb(device)
    test = held_out.ranking("test")
    if folder is not None:
        folder.begin()
        folder.write_history([record])
        folder.save_best(held_out.model, 0)
    result = _tested(test, held_out, folder, 0, record.get("val", {}), [record])
    for callback in callbacks:
        callback(record)
    return result


def _validate(held_out: HeldOut, record: dict[str, Any]) -> None:
    started = time.perf_counter()
    with part("rank"), waiting("ranking the validation split"):
        record["val"] = held_out.rank("val")
    record["eval_seconds"] = time.perf_counter() - started


def _tested(
    test: Ranking | None,
    held_out: HeldOut,
    folder: RunFolder | None,
    epoch: int,
    val: dict[str, float],
    history: list[dict[str, Any]],
) -> TrainResult:
    """The result of the weights of the selected ``epoch``, written last of all: it may end at any moment."""
    with part("rank"):
        metrics = test.metrics() if test else {}
    result = TrainResult(epoch, val, metrics, history, folder.path if folder else None)
    if folder is not None:
        folder.writer.wait()
        if test is not None:
            with part("write"):
                write_ranking(test, held_out.data, folder.path)
        folder.write_metrics(epoch, val, result.test)
    return result
