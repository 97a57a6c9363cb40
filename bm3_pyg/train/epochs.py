"""The steps of training, an epoch at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bm3_pyg.errors import RunError, TrainingError, one_line
from bm3_pyg.optim import DeferredAdam, RowTable, build_optimizer
from bm3_pyg.protocols import Losses, draws_per_epoch, takes_generator
from bm3_pyg.train.checkpoint import check_optimizer
from bm3_pyg.train.interrupt import StopFlag
from bm3_pyg.train.numbers import RunNumbers
from bm3_pyg.train.settings import TrainConfig
from bm3_pyg.train.weights import held_tables, load_weights_without, weights_without


@dataclass
class Position:
    """Where training stands, between two steps.

    Attributes:
        epoch: epochs that are over.
        step: steps taken of the next one.
        order: [E] the order of its interactions, None before its first step.
        sums: of each loss, over the interactions of its steps.
        seconds: that its steps took.
    """

    epoch: int = 0
    step: int = 0
    order: Tensor | None = None
    sums: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0


class Epochs:
    """A model and the optimizer that trains it, where they stand. To be closed: then the model is a plain module again.

    Args:
        model: the model.
        interactions: [2, E] to train on, on the model's device.
        config: settings.
        numbers: the random numbers of the run.
        last: last.pt of the run, if it has a folder.
    """

    def __init__(
        self, model: Any, interactions: Tensor, config: TrainConfig, numbers: RunNumbers, last: Path | None
    ) -> None:
        self.model, self.config, self.numbers, self.last = model, config, numbers, last
        self.loss: Callable[..., Losses] = model.loss
        if takes_generator(model.loss):
            self.loss = partial(model.loss, generator=numbers.generator)
        self.users, self.items = interactions
        self.steps = math.ceil(self.users.numel() / config.batch_size)
        self.position = Position()
        self.optimizer = build_optimizer(model, lr=config.lr)

    def close(self) -> None:
        if isinstance(self.optimizer, DeferredAdam):
            self.optimizer.detach()

    def advance(self, stop: StopFlag, after_step: Callable[[int, int], None]) -> dict[str, float]:
        """Take the steps that are left of this epoch, or those until ``stop`` is set; the mean of each loss so far.

        Raises:
            TrainingError: a loss is not finite.
        """
        started = time.perf_counter()
        if not self.model.training:  # a callback may have left it so
            self.model.train()
        for batch in self._batches():
            self._step(self.users[batch], self.items[batch])
            after_step(self.position.step, self.steps)
            if stop.set:
                break
        losses = self._mean_losses()
        self.position.seconds += time.perf_counter() - started
        return losses

    def end(self) -> None:
        """Stand before the first step of the next epoch.

        Raises:
            TrainingError: a weight is not finite.
        """
        # What is wrong with a row of a table shows in the losses of the next batches.
        tables = {id(module.stored) for module in self.model.modules() if isinstance(module, RowTable)}
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters() if id(weight) not in tables):
            raise self._error("weights are not finite after its last step")
        self.position = Position(self.position.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on from here, tables that the optimizer holds in its state; nothing is copied."""
        return {
            "model": weights_without(self.model, held_tables(self.model)),
            "optimizer": self.optimizer.state_dict(),
            "state": {**vars(self.position)},
            **self.numbers.state_dict(),
        }

    def load_state_dict(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Go on from :meth:`state_dict`, which was read from ``path``.

        Raises:
            RunError: it is not the state of this model and these interactions, or of another device.
        """
        position = Position(**{part.name: checkpoint["state"][part.name] for part in fields(Position)})
        position.order = None if position.order is None else position.order.clone()
        position.sums = {name: value.clone() for name, value in position.sums.items()}
        count = self.users.numel()
        if position.step > self.steps or (position.order is not None and not _is_permutation(position.order, count)):
            raise RunError(f"{path}: state: not that of an epoch of {count:,} interactions in {self.steps:,} steps")
        tables = held_tables(self.model)
        weights = {
            name: value for name, value in checkpoint["model"].items() if name.removesuffix(".weight") not in tables
        }
        load_weights_without(self.model, weights, path, tables)
        check_optimizer(self.optimizer, checkpoint["optimizer"], position.epoch * self.steps + position.step, path)
        try:
            self.numbers.load_state_dict(checkpoint)
        except RuntimeError as error:
            raise RunError(f"{path}: begun on another device ({one_line(error)})") from error
        self.position = position

    def _batches(self) -> Iterator[Tensor]:
        """Positions of the interactions of each step left in this epoch."""
        if self.position.order is None:
            generator = self.numbers.generator
            self.position.order = torch.randperm(self.users.numel(), generator=generator, device=generator.device)
            if draws_per_epoch(self.model):
                start: Callable[..., None] = self.model.start_epoch
                with self.numbers.drawing():
                    start(generator=generator) if takes_generator(start) else start()
        yield from self.position.order.to(self.users.device).split(self.config.batch_size)[self.position.step :]

    def _step(self, users: Tensor, items: Tensor) -> None:
        with self.numbers.drawing():
            losses = self.loss(users, items)
            losses.total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        sums = self.position.sums
        for name, value in losses._asdict().items():
            weighted = value.detach().double() * users.numel()
            sums[name] = sums[name] + weighted if name in sums else weighted
        self.position.step += 1

    def _mean_losses(self) -> dict[str, float]:
        """Mean of each loss over the interactions of this epoch so far."""
        count = min(self.position.step * self.config.batch_size, self.users.numel())
        losses = {name: float(total) / count for name, total in self.position.sums.items()}
        if not all(math.isfinite(value) for value in losses.values()):
            values = ", ".join(f"{name} {value:g}" for name, value in losses.items())
            raise self._error(f"loss is not finite ({values})")
        return losses

    def _error(self, what: str) -> TrainingError:
        kept = "" if self.last is None else f"; {self.last} keeps the last good state"
        epoch, lr = self.position.epoch + 1, self.config.lr
        return TrainingError(f"epoch {epoch}: {what}, expected finite numbers; try an lr below {lr:g}{kept}")


def _is_permutation(order: Tensor, count: int) -> bool:
    return order.numel() == count and bool((order.sort().values == torch.arange(count, device=order.device)).all())
