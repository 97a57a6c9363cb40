"""What measures a run: the rankings of its validation and test splits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.eval.cold import cold_items, is_cold_split, with_cold_items
from bm3_pyg.eval.ranking import TOP_K, Ranking, best_items, rank
from bm3_pyg.eval.tasks import ranking_task
from bm3_pyg.models import BM3
from bm3_pyg.protocols import Recommender, Scorer, ranking_mode, unwrapped


class HeldOut:
    """The rankings of a model that measure its run: of all items; of the split's cold items alone where all held-out
    ones are cold, scored as :func:`~bm3_pyg.eval.with_cold_items` places them if the model is a BM3 with modalities.

    Attributes:
        is_cold: whether cold items alone are ranked.
        tasks: the task of each of the ``splits`` that has interactions.

    Args:
        model: a recommender; its weights may change from one ranking to the next.
        data: the dataset.
        mask: as in :func:`bm3_pyg.evaluate`.
        splits: those to rank.

    Raises:
        DataError: if there is nobody to rank for in a split that has interactions.
    """

    def __init__(
        self, model: Recommender, data: HeteroData, mask: str = "train", splits: Sequence[str] = ("val", "test")
    ) -> None:
        self.model, self.data = unwrapped(model), data
        self.is_cold = is_cold_split(data)
        self.tasks = {
            split: ranking_task(data, split, mask, cold_items(data, split) if self.is_cold else None)
            for split in splits
            if edges_of(data, split).size(1)
        }

    def scorer(self) -> Scorer:
        """The model's own scorer, or that of :func:`~bm3_pyg.eval.with_cold_items`, with the present weights."""
        places_items = self.is_cold and isinstance(self.model, BM3) and len(self.model.features) > 0
        scorer: Scorer = (with_cold_items(self.model, self.data) if places_items else self.model).scorer()
        return scorer

    def rank(self, split: str) -> dict[str, float]:
        """The metrics of one of the :attr:`tasks`, unrounded."""
        with ranking_mode(self.model):
            return rank(self.scorer(), self.tasks[split])

    def ranking(self, split: str, k: int = max(TOP_K)) -> Ranking | None:
        """The lists that :meth:`rank` measures; None where the split has no interactions."""
        if split not in self.tasks:
            return None
        with ranking_mode(self.model):
            lists = best_items(self.scorer(), self.tasks[split], k)
            return Ranking(self.tasks[split], torch.cat([*lists]))
