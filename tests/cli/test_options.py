"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., None]


def test_a_dataset_that_has_moved(bm3: Run, shop: Path, assert_refused: Refused) -> None:
    bm3("train", shop, "--out", "run", "--set", "max_epochs=1")
    shop.rename(shop.with_name("moved"))
    assert_refused(bm3("evaluate", "run"), "shop")
    assert bm3("evaluate", "run", "--data", "moved")[0] == 0


def test_a_table_with_features_that_has_moved(bm3: Run, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    rows = [(f"u{u}", f"i{(u + j) % 8}") for u in range(12) for j in range(6)]
    pl.DataFrame(rows, schema=["user", "item"], orient="row").write_csv("here/clicks.csv")
    np.save("here/image.npy", np.random.default_rng(0).standard_normal((8, 5), dtype=np.float32))
    features = ["--features", "image=here/image.npy"]
    assert bm3("train", "here/clicks.csv", *features, "--out", "run", "--set", "max_epochs=1")[0] == 0
    (tmp_path / "here").rename(tmp_path / "there")
    assert bm3("evaluate", "run", "--data", "there/clicks.csv")[0] == 0
    assert bm3("export", "run", "--data", "there/clicks.csv", "--format", "npy", "--out", "out")[0] == 0


def test_a_name_given_twice_is_refused(bm3: Run, assert_refused: Refused) -> None:
    Path("clicks.csv").write_text("user,item\na,x\n")
    assert_refused(
        bm3("train", "clicks.csv", "--features", "image=a.npy", "--features", "image=b.npy"), "got image twice"
    )
