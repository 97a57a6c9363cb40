"""A run's embeddings for other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch_geometric.data import HeteroData

from bm3_pyg.data import raw_ids
from bm3_pyg.errors import RunError
from bm3_pyg.files import atomic_folder
from bm3_pyg.nn import BM3


@torch.no_grad()
def export_embeddings(model: BM3, data: HeteroData, out: Path, format: str) -> None:
    """Write f(h_u) [U, D] and f(h_i) [I, D], whose dot products are the scores, with the ids of the source files.

    ``npy`` gives users.npy, items.npy and, row by row, user_ids.npy, item_ids.npy; ``parquet`` gives users.parquet and
    items.parquet with columns id and embedding.

    Raises:
        RunError: if ``out`` exists and is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: exists already, expected a new or empty folder")
    with atomic_folder(out) as folder:
        for node, embedding in zip(("user", "item"), model.embed(), strict=True):
            values, ids = embedding.cpu().numpy(), raw_ids(data, node)
            if format == "npy":
                np.save(folder / f"{node}s.npy", values)
                np.save(folder / f"{node}_ids.npy", ids)
            else:
                table = pl.DataFrame({"id": ids, "embedding": values})
                table.write_parquet(folder / f"{node}s.parquet")
