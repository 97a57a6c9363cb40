"""The selection of an epoch by validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bm3_pyg.names import SELECTION
from bm3_pyg.train.checkpoint import load_weights
from bm3_pyg.train.run import RunFolder


class Selection:
    """The best epoch so far by validation, the last one where there is no validation; and its weights.

    Attributes:
        epoch: that epoch, 0 before the first.
        val: its validation metrics.
        without_gain: evaluations since.

    Args:
        model: the model.
        folder: where the weights are kept; in memory if there is none.
    """

    def __init__(self, model: nn.Module, folder: RunFolder | None) -> None:
        self.model, self.folder = model, folder
        self.epoch, self.without_gain = 0, 0
        self.val: dict[str, float] = {}
        self._weights: dict[str, Tensor] = {}

    def consider(self, epoch: int, val: dict[str, float]) -> None:
        """Select ``epoch``, which ends with the present weights, if it is the best or there is nothing to select by."""
        if val and self.val and val[SELECTION] <= self.val[SELECTION]:
            self.without_gain += 1
            return
        self.epoch, self.val, self.without_gain = epoch, val, 0
        weights = self.model.state_dict()
        if self.folder is not None:
            self.folder.save_best(weights, epoch)
        else:
            self._weights = {name: value.clone() for name, value in weights.items()}

    def load(self) -> None:
        """Give the model the weights of the selected epoch."""
        if self.folder is None:
            self.model.load_state_dict(self._weights)
        else:
            weights = self.folder.load_best(next(self.model.parameters()).device, self.epoch)
            load_weights(self.model, weights, self.folder.path / "best.pt")

    def state_dict(self) -> dict[str, Any]:
        """What last.pt holds of it."""
        return {"best_epoch": self.epoch, "best": self.val, "without_gain": self.without_gain}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.val, self.without_gain = state["best_epoch"], state["best"], state["without_gain"]
