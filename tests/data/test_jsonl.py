from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bm3_pyg.data import jsonl
from bm3_pyg.data.jsonl import parse_jsonl
from bm3_pyg.errors import DataError

PATH = Path("x.jsonl")


def parse(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return parse_jsonl(PATH, "\n".join(map(json.dumps, rows)).encode())[0]


def test_values_are_the_texts_that_json_has_for_them() -> None:
    row = {"a": "x", "b": 7, "c": 1.5, "d": True, "e": {"f": ["ü"]}, "g": ["h"], "i": 2**70, "j": "", "k": None}
    assert parse([row]).rows() == [("x", "7", "1.5", "true", '{"f": ["ü"]}', '["h"]', str(2**70), None, None)]


def test_keys_may_come_in_any_order_and_be_missing() -> None:
    frame = parse([{"a": 1, "b": 2}, {"b": 3}, {"c": 4, "a": 5}])
    assert frame.to_dict(as_series=False) == {"a": ["1", None, "5"], "b": ["2", "3", None], "c": [None, None, "4"]}


def test_lines_are_counted_with_the_blank_ones() -> None:
    frame, lines = parse_jsonl(PATH, b'\n{"a": 1}\r\n\n  \n{"a": 2}\n')
    assert frame["a"].to_list() == ["1", "2"]
    assert lines.tolist() == [2, 5]


@pytest.mark.parametrize("chunk", [1, 2, 50])
def test_lists_of_numbers_are_a_list_column_unless_one_is_not(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "CHUNK", chunk)
    frame = parse([{"v": None, "w": "x"}, {"v": [1, 2.5], "w": [1]}, {"v": [], "w": None}])
    assert frame["v"].dtype == pl.List(pl.Float64)
    assert frame["v"].to_list() == [None, [1, 2.5], []]
    assert frame["w"].to_list() in (["x", "[1]", None], ["x", "[1.0]", None])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": 1', r"line 2: '\{\"a\": 1', expected a line of JSON"),
        (b"a,b", "line 2: 'a,b', expected a line of JSON"),
        (b"[1]", r"line 2: '\[1\]', expected a JSON object in each line"),
        (b"{}", r"line 2: '\{\}', expected a JSON object in each line"),
        (b'{"a": "\\ud800"}', "line 2: half a surrogate pair, expected text"),
        (b"[" * 100_000, r"line 2: '\[+'... \(100,000 characters\), expected"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_lines_that_are_no_objects(line: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"^x\.jsonl: {message}"):
        parse_jsonl(PATH, b'{"a": 1}\n' + line + b"\n")
