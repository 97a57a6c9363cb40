"""Early stopping by validation, and the selected weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bm3_pyg.names import SELECTION
from bm3_pyg.train.run import RunFolder
from bm3_pyg.train.settings import TrainConfig
from bm3_pyg.train.weights import load_best_weights


class EarlyStopping:
    """Selects the best epoch so far by validation, the last one where there is no validation, and keeps its weights.

    Attributes:
        best_epoch: the selected epoch, 0 before the first.
        best: its validation metrics.
        without_gain: evaluations since.

    Args:
        model: the model.
        config: settings.
        folder: where the weights are kept; in memory if there is none.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, folder: RunFolder | None) -> None:
        self.model, self.config, self.folder = model, config, folder
        self.best_epoch, self.without_gain = 0, 0
        self.best: dict[str, float] = {}
        self._weights: dict[str, Tensor] = {}

    def ends_after(self, epoch: int) -> bool:
        """Whether no epoch follows ``epoch``."""
        config = self.config
        stops = self.without_gain >= config.patience and epoch >= config.min_epochs
        return epoch >= config.max_epochs or stops

    def consider(self, epoch: int, val: dict[str, float]) -> None:
        """Select ``epoch``, which left the present weights, if it is the best or there is nothing to select by."""
        if val and self.best and val[SELECTION] <= self.best[SELECTION]:
            self.without_gain += 1
            return
        self.best_epoch, self.best, self.without_gain = epoch, val, 0
        if self.folder is not None:
            self.folder.save_best(self.model, epoch)
        else:
            self._weights = {}
            weights = self.model.state_dict()
            self._weights = {name: weights.pop(name).clone() for name in list(weights)}

    def load_best(self) -> None:
        """Give the model the weights of the selected epoch, as far as they are kept: in memory all are."""
        if self.folder is None:
            self.model.load_state_dict(self._weights)
        else:
            best = self.folder.load_best(next(self.model.parameters()).device, self.best_epoch)
            load_best_weights(self.model, best, self.folder.path / "best.pt")

    def state_dict(self) -> dict[str, Any]:
        """What last.pt holds of it."""
        return {"best_epoch": self.best_epoch, "best": self.best, "without_gain": self.without_gain}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best_epoch, self.best, self.without_gain = state["best_epoch"], state["best"], state["without_gain"]
