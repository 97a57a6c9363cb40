"""Files to :class:`~torch_geometric.data.HeteroData` and back: planted data, MMRec folders, your own tables."""

from bm3_pyg.data.export import export_dataset
from bm3_pyg.data.graph import describe, edges_of, fingerprint, index_of, modalities, raw_ids
from bm3_pyg.data.load import load_dataset
from bm3_pyg.data.planted import PLANTED
from bm3_pyg.data.prepare import prepare_catalogue

__all__ = [
    "PLANTED",
    "describe",
    "edges_of",
    "export_dataset",
    "fingerprint",
    "index_of",
    "load_dataset",
    "modalities",
    "prepare_catalogue",
    "raw_ids",
]
