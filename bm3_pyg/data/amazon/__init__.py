"""The Amazon 2014 release: from the raw files to :class:`~torch_geometric.data.HeteroData`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bm3_pyg.data.amazon.dataset import AmazonMultimodal
    from bm3_pyg.data.amazon.prepare import prepare_amazon
    from bm3_pyg.data.amazon.sources import CATEGORIES

__all__ = ["CATEGORIES", "AmazonMultimodal", "prepare_amazon"]
_HOMES = {"AmazonMultimodal": "dataset", "CATEGORIES": "sources", "prepare_amazon": "prepare"}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are asked for, so that reading files does not wait for PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
