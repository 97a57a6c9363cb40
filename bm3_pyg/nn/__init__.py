"""What recommenders are built from. BM3 and its view, which stood here once, are found here still."""

from bm3_pyg.later import lazily
from bm3_pyg.nn.base import RecommenderModel
from bm3_pyg.nn.objective import BM3Losses, BootstrapObjective

__all__ = ["BM3Losses", "BootstrapObjective", "RecommenderModel"]
__getattr__, __dir__ = lazily(
    __name__,
    {
        "BM3": "bm3_pyg.models.bm3",
        "BM3LightGCN": "bm3_pyg.models.bm3_lightgcn",
        "RowTable": "bm3_pyg.optim.row_table",
    },
)
