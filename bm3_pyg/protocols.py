"""The small protocols that training, evaluation and recommendation speak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

Scorer = Callable[[Tensor], Tensor]
"""User ids [B] -> scores [B, I] of every item, higher is better."""


class Losses(Protocol):
    """A named tuple of scalar losses, of which ``total`` is the one to minimise."""

    @property
    def total(self) -> Tensor: ...

    def _asdict(self) -> dict[str, Tensor]: ...


@runtime_checkable
class Recommender(Protocol):
    """Anything that can score every item for a user."""

    def scorer(self) -> Scorer:
        """Do the work shared by all users once, and return the function that scores items for given users."""
        ...


@runtime_checkable
class Trainable(Recommender, Protocol):
    """A recommender, in practice a ``torch.nn.Module``, with a loss on a batch of positives."""

    def loss(self, users: Tensor, items: Tensor) -> Losses:
        """Losses of the interactions ``(users[b], items[b])``, both [B]; negatives are the model's own business."""
        ...


@runtime_checkable
class PerEpoch(Trainable, Protocol):
    """A trainable that draws something anew for every epoch, from PyTorch's global random numbers.

    What it drew is part of its ``state_dict()``, so that a run stopped within an epoch goes on with the same.
    """

    def start_epoch(self) -> None:
        """Called before the first step of each epoch."""
        ...
