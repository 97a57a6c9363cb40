"""The Amazon 2014 release: from the raw files to :class:`~torch_geometric.data.HeteroData`."""

from typing import TYPE_CHECKING

from bm3_pyg.later import lazily

if TYPE_CHECKING:
    from bm3_pyg.data.amazon.dataset import AmazonMultimodal
    from bm3_pyg.data.amazon.prepare import Preprocessing, prepare_amazon
    from bm3_pyg.data.amazon.release import CATEGORIES

__all__ = ["CATEGORIES", "AmazonMultimodal", "Preprocessing", "prepare_amazon"]
__getattr__, __dir__ = lazily(
    __name__,
    {
        "AmazonMultimodal": "bm3_pyg.data.amazon.dataset",
        "CATEGORIES": "bm3_pyg.data.amazon.release",
        "Preprocessing": "bm3_pyg.data.amazon.prepare",
        "prepare_amazon": "bm3_pyg.data.amazon.prepare",
    },
)
