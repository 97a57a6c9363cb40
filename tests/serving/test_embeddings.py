from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg import BM3
from bm3_pyg.errors import RunError
from bm3_pyg.serving.embeddings import export_embeddings


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_dot_products_of_the_files_are_the_scores(small_data: HeteroData, tmp_path: Path, format: str) -> None:
    small_data["user"].raw_id = np.array([f"u{i}" for i in range(60)])
    model = BM3.from_data(small_data)
    export_embeddings(model, small_data, tmp_path / "out", format)
    if format == "npy":
        users, items, ids = (np.load(tmp_path / "out" / f"{name}.npy") for name in ("users", "items", "user_ids"))
    else:
        table = pl.read_parquet(tmp_path / "out/users.parquet")
        users, ids = table["embedding"].to_numpy(), table["id"].to_numpy()
        items = pl.read_parquet(tmp_path / "out/items.parquet")["embedding"].to_numpy()
    assert ids.tolist() == small_data["user"].raw_id.tolist()
    np.testing.assert_allclose(users @ items.T, model.scorer()(torch.arange(60)), rtol=1e-4, atol=1e-6)


def test_a_folder_with_something_in_it_is_left_alone(small_data: HeteroData, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RunError, match="exists already"):
        export_embeddings(BM3.from_data(small_data), small_data, tmp_path, "npy")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
