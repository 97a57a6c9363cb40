from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from bm3_pyg import recommend
from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.eval.lists import read_ids, write_recommendations


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_rows_are_the_lists_in_own_ids(fixed: Any, random_data: Any, tmp_path: Path, suffix: str) -> None:
    data = random_data(9, 12, 0.5, seed=0)
    data["user"].raw_id = np.array([f"u{i}" for i in range(9)])
    data["item"].raw_id = np.arange(12) * 10
    model = fixed(torch.randn(9, 12))
    out = tmp_path / f"lists{suffix}"
    count = write_recommendations(model, data, out, users=["u4", "u1"], k=8)
    read: Any = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix]
    table = read(out)
    ids, scores = recommend(model, [4, 1], 8, data)
    expected = [
        (user, rank + 1, 10 * int(ids[row, rank]), pytest.approx(float(scores[row, rank]), rel=1e-6))
        for row, user in enumerate(["u4", "u1"])
        for rank in range(8)
        if ids[row, rank] >= 0
    ]
    assert table.rows() == expected
    assert count == len(expected)


def test_an_unknown_suffix_and_unknown_ids(fixed: Any, random_data: Any, tmp_path: Path) -> None:
    data, model = random_data(9, 12, 0.5, seed=0), fixed(torch.randn(9, 12))
    with pytest.raises(ConfigError, match=r"expected \.parquet, \.csv, \.jsonl"):
        write_recommendations(model, data, tmp_path / "lists.xlsx")
    with pytest.raises(DataError, match="'77'"):
        write_recommendations(model, data, tmp_path / "lists.csv", users=["77"])
    assert list(tmp_path.iterdir()) == []


def test_ids_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("a\n\n b \r\n")
    assert read_ids(path) == ["a", "b"]
    for content, message in ((b"\n", "empty"), (b"\xff\xfe", "not UTF-8")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_ids(path)
    with pytest.raises(DataError, match="no such file"):
        read_ids(tmp_path / "none.txt")
