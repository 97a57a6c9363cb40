"""The Amazon 2014 release: from the raw files to :class:`~torch_geometric.data.HeteroData`."""

from typing import TYPE_CHECKING

from bm3_pyg.later import lazily

if TYPE_CHECKING:
    from bm3_pyg.data.amazon.dataset import AmazonMultimodal
    from bm3_pyg.data.amazon.prepare import prepare_amazon
    from bm3_pyg.data.amazon.raw_files import CATEGORIES

__all__ = ["CATEGORIES", "AmazonMultimodal", "prepare_amazon"]
__getattr__, __dir__ = lazily(
    __name__,
    {
        "AmazonMultimodal": "bm3_pyg.data.amazon.dataset",
        "CATEGORIES": "bm3_pyg.data.amazon.raw_files",
        "prepare_amazon": "bm3_pyg.data.amazon.prepare",
    },
)
