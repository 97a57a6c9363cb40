from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from bm3_pyg import BM3, recommend
from bm3_pyg.data.ids import read_histories, read_ids
from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.eval.cold import ColdItems
from bm3_pyg.serving import recommend_new, similar_items
from bm3_pyg.serving.lists import new_user_table, recommendation_table, similar_table, write_table


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_rows_are_the_lists_in_own_ids(fixed: Any, random_data: Any, tmp_path: Path, suffix: str) -> None:
    data = random_data(9, 12, 0.5, seed=0)
    data["user"].raw_id = np.array([f"u{i}" for i in range(9)])
    data["item"].raw_id = np.arange(12) * 10
    model = fixed(torch.randn(9, 12))
    out = tmp_path / f"lists{suffix}"
    written = recommendation_table(model, data, users=["u4", "u1"], k=8)
    write_table(written, out)
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
    assert len(written) == len(expected)


def test_an_unknown_suffix_and_unknown_ids(fixed: Any, random_data: Any, tmp_path: Path) -> None:
    data, model = random_data(9, 12, 0.5, seed=0), fixed(torch.randn(9, 12))
    with pytest.raises(ConfigError, match=r"expected \.parquet, \.csv, \.jsonl"):
        write_table(recommendation_table(model, data), tmp_path / "lists.xlsx")
    with pytest.raises(DataError, match="'77'"):
        recommendation_table(model, data, users=["77"])
    assert list(tmp_path.iterdir()) == []


def test_ids_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("a\n\n b \r\n\u2028\u00a0c\n")
    ids = read_ids(path)
    assert ids == ["a", " b ", "\u2028\u00a0c"]
    assert [ids.where(place) for place in range(3)] == [f"{path}: line {line}" for line in (1, 3, 4)]
    for content, message in ((b"\n", "empty"), (b"a\n\xff", "line 2: byte 0xff is not UTF-8"), (b"a\0", "NUL")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_ids(path)
    with pytest.raises(DataError, match="no such file"):
        read_ids(tmp_path / "none.txt")


def test_new_users_lists_in_own_ids(random_data: Any, tmp_path: Path) -> None:
    data = random_data(9, 12, 0.5, seed=0)
    data["item"].raw_id = np.array([f"i{i}" for i in range(12)])
    model = BM3.from_data(data)
    (tmp_path / "new.csv").write_text("user,item\nzoe,i3\n7,i0\nzoe,i11\n")
    histories = read_histories(tmp_path / "new.csv")
    assert histories == {"zoe": ["i3", "i11"], "7": ["i0"]}
    table = new_user_table(model, data, histories, k=99, candidates=["i3", "i5"])
    ids, _ = recommend_new(model, [[3, 11], [0]], 12, candidates=[3, 5])
    expected = [
        (user, rank + 1, f"i{item}")
        for user, row in zip(("zoe", "7"), ids.tolist(), strict=True)
        for rank, item in enumerate(row)
        if item >= 0
    ]
    assert table.drop("score").rows() == expected
    assert len(expected) == 3
    with pytest.raises(DataError, match="'i99'"):
        new_user_table(model, data, {"a": ["i99"]})
    with pytest.raises(ConfigError, match=r"expected \.parquet"):
        write_table(table, tmp_path / "no.txt")
    (tmp_path / "new.csv").write_text("user,thing\nzoe,i3\n")
    with pytest.raises(DataError, match="item"):
        read_histories(tmp_path / "new.csv")


def test_similar_items_in_own_ids(random_data: Any) -> None:
    data = random_data(9, 12, 0.5, seed=0)
    data["item"].raw_id = np.array([f"i{i}" for i in range(12)])
    model = ColdItems(torch.randn(9, 4), torch.randn(12, 4))
    table = similar_table(model, data, ["i7", "i2"], k=3)
    ids, cosines = similar_items(model, [7, 2], 3)
    assert table.columns == ["item", "rank", "similar", "cosine"]
    assert table.rows() == [
        (item, rank + 1, f"i{ids[row, rank]}", float(cosines[row, rank]))
        for row, item in enumerate(("i7", "i2"))
        for rank in range(3)
    ]
    assert len(similar_table(model, data, ["i7"], k=99)) == 11
    with pytest.raises(DataError, match="'i12'"):
        similar_table(model, data, ["i12"])
