"""``bm3 export`` and ``import-checkpoint``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., None]


def test_exported_embeddings_give_the_scores(bm3: Run, trained: Path, assert_refused: Refused) -> None:
    bm3("recommend", trained, "--k", "1", "--out", "top.csv", "--include-seen")
    top = pl.read_csv("top.csv").row(0, named=True)
    assert bm3("export", trained, "--format", "npy", "--out", "npy")[0] == 0
    scores = np.load("npy/users.npy")[0] @ np.load("npy/items.npy").T
    assert np.load("npy/item_ids.npy")[scores.argmax()] == top["item"]
    assert scores.max() == pytest.approx(top["score"], rel=1e-5)
    assert bm3("export", trained, "--format", "parquet", "--out", "parquet")[0] == 0
    assert pl.read_parquet("parquet/items.parquet")["embedding"].to_numpy().shape == (1000, 64)
    assert_refused(bm3("export", trained, "--format", "npy", "--out", "npy"), "npy: exists already")


def test_an_exported_dataset_is_the_same_dataset(bm3: Run, shop: Path) -> None:
    assert bm3("export", shop, "--format", "mmrec", "--out", "copy")[0] == 0
    cards = [json.loads(bm3("data", "describe", path, "--json")[1]) for path in (shop, "copy")]
    assert cards[0]["fingerprint"] == cards[1]["fingerprint"]


def test_faiss_is_for_runs_and_ogb_for_datasets(bm3: Run, assert_refused: Refused, trained: Path, shop: Path) -> None:
    assert_refused(bm3("export", shop, "--format", "faiss", "--out", "x"), "faiss is for runs")
    assert_refused(bm3("export", trained, "--format", "ogb", "--out", "x"), "ogb is for datasets")
    pytest.importorskip("faiss")
    code, out, _ = bm3("export", trained, "--format", "faiss", "--out", "index")
    assert code == 0
    assert "flat: recall@20 1.0000 against exact search" in out
    assert Path("index/flat.faiss").is_file()
    pytest.importorskip("ogb")
    assert bm3("export", shop, "--format", "ogb", "--out", "ogb")[0] == 0
