"""A run's embeddings for other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch_geometric.data import HeteroData

from bm3_pyg.data import raw_ids
from bm3_pyg.data.ids import fixed_width, to_series
from bm3_pyg.errors import RunError
from bm3_pyg.eval.ranking import check_sizes
from bm3_pyg.files import atomic_folder, is_taken
from bm3_pyg.protocols import Recommender
from bm3_pyg.serving.similar import embeddings_of


def export_embeddings(model: Recommender, data: HeteroData, out: Path, format: str) -> None:
    """Write the users' [U, D] and items' [I, D] embeddings, whose dot products are the scores, with their own ids.

    ``npy`` gives users.npy, items.npy and, row by row, user_ids.npy, item_ids.npy; ``parquet`` gives users.parquet and
    items.parquet with columns id and embedding.

    Raises:
        ConfigError: if the model has no embeddings.
        RunError: if ``out`` exists and is not empty.
    """
    check_new_folder(out)
    check_sizes(model, data)
    users, items = (part.cpu().numpy() for part in embeddings_of(model))
    with atomic_folder(out) as folder:
        if format == "npy":
            save_arrays(folder, data, users, items)
            return
        for node, values in (("user", users), ("item", items)):
            table = pl.DataFrame({"id": to_series(raw_ids(data, node)), "embedding": values})
            table.write_parquet(folder / f"{node}s.parquet")


def check_new_folder(out: Path) -> None:
    """Raise :class:`RunError` unless ``out`` is a folder to come or an empty one."""
    if is_taken(out):
        raise RunError(f"{out}: exists already, expected a new or empty folder")


def save_arrays(folder: Path, data: HeteroData, users: NDArray[np.float32], items: NDArray[np.float32]) -> None:
    """users.npy, items.npy, and the own ids of their rows, user_ids.npy and item_ids.npy."""
    for node, values in (("user", users), ("item", items)):
        np.save(folder / f"{node}s.npy", values)
        np.save(folder / f"{node}_ids.npy", fixed_width(raw_ids(data, node)), allow_pickle=False)
