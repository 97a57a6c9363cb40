from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg import BM3
from bm3_pyg.errors import ConfigError, RunError
from bm3_pyg.eval.cold import ColdItems
from bm3_pyg.models import Popularity
from bm3_pyg.serving.embeddings import export_embeddings, export_faiss


@pytest.fixture
def faiss() -> Any:
    return pytest.importorskip("faiss")


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


def test_recall_against_exact_search(faiss: Any, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(30, 16, generator=generator)
    users, items = (
        centres[torch.randint(30, (n,), generator=generator)] + 0.5 * torch.randn(n, 16, generator=generator)
        for n in (300, 2000)
    )
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 300, 2000
    reports = {report.index: report for report in export_faiss(ColdItems(users, items), data, tmp_path / "out")}
    assert reports.keys() == {"flat", "ivf"}
    assert reports["flat"].recall >= 0.99
    assert reports["ivf"].queries == 300
    for name, report in reports.items():
        index = faiss.read_index(str(tmp_path / "out" / f"{name}.faiss"))
        found = index.search(np.load(tmp_path / "out/users.npy"), 20)[1]
        exact = [sorted(range(2000), key=lambda i: -float(row[i]))[:20] for row in users @ items.T]
        shared = [len(set(a) & set(b)) / 20 for a, b in zip(found.tolist(), exact, strict=True)]
        assert report.recall == pytest.approx(np.mean(shared), abs=1e-3)
        assert report.queries_per_second > 0
    assert reports["ivf"].recall > 0.7


def test_ids_and_scores_are_the_models(faiss: Any, small_data: HeteroData, tmp_path: Path) -> None:
    small_data["item"].raw_id = np.array([f"i{i}" for i in range(40)])
    model = BM3.from_data(small_data)
    export_faiss(model, small_data, tmp_path / "out")
    ids, users = (np.load(tmp_path / "out" / f"{name}.npy") for name in ("item_ids", "users"))
    scores, rows = faiss.read_index(str(tmp_path / "out/flat.faiss")).search(users, 3)
    values, best = model.scorer()(torch.arange(60)).topk(3)
    np.testing.assert_allclose(scores, values, rtol=1e-4, atol=1e-6)
    assert (ids[rows] == small_data["item"].raw_id[best]).mean() > 0.99
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("faiss")
@pytest.mark.parametrize("items", [1, 3, 50])
def test_indices_of_small_catalogues(tmp_path: Path, items: int) -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, items
    reports = export_faiss(ColdItems(torch.randn(2, 4), torch.randn(items, 4)), data, tmp_path / "out")
    assert reports[0].recall == 1.0
    assert 0 < reports[1].recall <= 1.0


@pytest.mark.usefixtures("faiss")
def test_wrong_input_is_refused(small_data: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="Popularity has no embeddings"):
        export_faiss(Popularity.from_data(small_data), small_data, tmp_path / "out")
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RunError, match="exists already"):
        export_faiss(BM3.from_data(small_data), small_data, tmp_path)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r'pip install "bm3-pyg\[ann\]"'):
        export_faiss(BM3.from_data(small_data), small_data, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
