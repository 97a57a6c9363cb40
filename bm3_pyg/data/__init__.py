"""Files to :class:`~torch_geometric.data.HeteroData` and back: planted data, MMRec folders, your own tables."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bm3_pyg.data.edges import edges_of
    from bm3_pyg.data.export import export_dataset
    from bm3_pyg.data.graph import index_of, modalities, raw_ids
    from bm3_pyg.data.load import load_dataset
    from bm3_pyg.data.planted import PLANTED
    from bm3_pyg.data.prepare import prepare_catalogue
    from bm3_pyg.data.summary import describe, fingerprint, same_fingerprint

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
    "same_fingerprint",
]
_HOMES = {
    "edges_of": "edges",
    **{"PLANTED": "planted", "export_dataset": "export", "load_dataset": "load", "prepare_catalogue": "prepare"},
    **dict.fromkeys(("describe", "fingerprint", "same_fingerprint"), "summary"),
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are asked for, so that reading files does not wait for PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'graph')}"), name)
