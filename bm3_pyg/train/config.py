"""The settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass, fields

from bm3_pyg.names import check_option

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
        for field in fields(self):
            check_option(field.name, getattr(self, field.name))
