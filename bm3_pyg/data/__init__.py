"""Files to :class:`~torch_geometric.data.HeteroData` and back: planted data, MMRec folders, your own tables.

A file becomes bytes (``content``), rows (``delimited`` for CSV and TSV, ``jsonl``; ``table`` chooses) and columns
(``table``, ``times``, ``ids``). Rows become :class:`~bm3_pyg.data.splits.Interactions`, merged, reduced to the k-core
and split (``splits``), and with ``features`` a graph (:func:`bm3_pyg.data.hetero.build`). ``interaction_table``,
``mmrec`` and ``planted`` do so for a kind of source each; ``load`` chooses.
"""

from typing import TYPE_CHECKING

from bm3_pyg.later import lazily

if TYPE_CHECKING:
    from bm3_pyg.data.catalogue import prepare_catalogue
    from bm3_pyg.data.edges import edges_of
    from bm3_pyg.data.export import export_dataset
    from bm3_pyg.data.hetero import index_of, modalities, raw_ids
    from bm3_pyg.data.load import load_dataset
    from bm3_pyg.data.planted import PLANTED
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
__getattr__, __dir__ = lazily(
    __name__,
    {
        "PLANTED": "bm3_pyg.data.planted",
        "describe": "bm3_pyg.data.summary",
        "edges_of": "bm3_pyg.data.edges",
        "export_dataset": "bm3_pyg.data.export",
        "fingerprint": "bm3_pyg.data.summary",
        "index_of": "bm3_pyg.data.hetero",
        "load_dataset": "bm3_pyg.data.load",
        "modalities": "bm3_pyg.data.hetero",
        "prepare_catalogue": "bm3_pyg.data.catalogue",
        "raw_ids": "bm3_pyg.data.hetero",
        "same_fingerprint": "bm3_pyg.data.summary",
    },
)
