"""The Amazon 2014 release: from the raw files to :class:`~torch_geometric.data.HeteroData`."""

from bm3_pyg.data.amazon.dataset import AmazonMultimodal
from bm3_pyg.data.amazon.prepare import prepare_amazon
from bm3_pyg.data.amazon.sources import CATEGORIES

__all__ = ["CATEGORIES", "AmazonMultimodal", "prepare_amazon"]
