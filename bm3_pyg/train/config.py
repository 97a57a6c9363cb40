"""The settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from bm3_pyg.errors import ConfigError, check_number

RESUMABLE = frozenset({"max_epochs", "min_epochs", "patience", "checkpoint_seconds"})
"""Settings that may change when a run is resumed; any other would make it another run."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the defaults are the published ones.

    Attributes:
        max_epochs: passes over the training interactions at most.
        min_epochs: no early stop before this many epochs.
        patience: stop after this many evaluations in a row without a higher validation Recall@20.
        batch_size: interactions in a step; the short last batch is kept.
        lr: learning rate of Adam.
        eval_every: epochs between evaluations.
        mask: what evaluation hides, ``train`` or ``seen`` (see :func:`bm3_pyg.evaluate`).
        seed: seed of the batch order and of the dropout masks.
        checkpoint_seconds: seconds between two writings of ``last.pt``, at least.

    Raises:
        ConfigError: if a value is of the wrong type or out of range.
    """

    max_epochs: int = 1000
    min_epochs: int = 0
    patience: int = 20
    batch_size: int = 2048
    lr: float = 1e-3
    eval_every: int = 1
    mask: str = "train"
    seed: int = 0
    checkpoint_seconds: float = 300

    def __post_init__(self) -> None:
        check_number("max_epochs", self.max_epochs, int, 1)
        check_number("min_epochs", self.min_epochs, int, 0)
        check_number("patience", self.patience, int, 1)
        check_number("batch_size", self.batch_size, int, 1)
        check_number("lr", self.lr, float, 0)
        check_number("eval_every", self.eval_every, int, 1)
        check_number("seed", self.seed, int, 0, 2**32)
        check_number("checkpoint_seconds", self.checkpoint_seconds, float, 0)
        if self.mask not in ("train", "seen"):
            raise ConfigError(f"mask: got {self.mask!r}, expected train or seen")
