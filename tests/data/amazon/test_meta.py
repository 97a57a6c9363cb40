from __future__ import annotations

import ast
import gzip
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from raw_amazon import RawFiles, Size, write_raw

from bm3_pyg.data.amazon import lines
from bm3_pyg.data.amazon.meta import read_texts
from bm3_pyg.errors import DataError

ITEM = "B000000001"
FULL = {
    "asin": ITEM,
    "description": "Soft &amp;\nsafe.\r\nIt's fine. ",
    "title": " A 'B' \"C\" é",
    "price": 1.5,
    "brand": "Nûby",
    "categories": [["Baby", "Toys & Games"], ["Other"]],
}
TEXT = "A 'B' \"C\" é Nûby Baby Toys & Games Soft &amp; safe.  It's fine."


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawFiles:
    folder = tmp_path_factory.mktemp("raw")
    size = {"users": 190, "items": 120, "interactions": 1600, "ratings": 3000, "meta_items": 300}
    return write_raw(folder, "Baby", Size(**size), image_dim=4)


def written(tmp_path: Path, *content: bytes | str) -> Path:
    path = tmp_path / "meta_Baby.json.gz"
    raw = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in content)
    path.write_bytes(gzip.compress(raw + b"\n", compresslevel=1))
    return path


def others(n: int) -> list[str]:
    return [repr({"asin": f"C{number:09}", "title": f"other {number}"}) for number in range(n)]


@pytest.mark.parametrize("piece", [700, 30_000, 1 << 24])
def test_generated_file_is_read_as_a_plain_loop_reads_it(
    raw: RawFiles, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(lines, "PIECE", piece)
    expected = {}
    with gzip.open(raw.meta, "rt", encoding="utf-8") as file:
        for line in file:
            record = ast.literal_eval(line)
            path = " ".join((record.get("categories") or [[]])[0])
            parts = [record.get("title", ""), record.get("brand", ""), path, record.get("description", "")]
            expected[record["asin"]] = " ".join(parts).replace("\n", " ").strip()
    wanted = raw.core["item"].unique(maintain_order=True).shuffle(seed=1)
    texts, notes = read_texts(raw.meta, wanted)
    assert texts == [expected.get(item, "") for item in wanted]
    assert texts == [raw.texts.get(item, "") for item in wanted]
    assert "" in texts
    assert notes == []
    everything = pl.Series(list(expected))
    assert read_texts(raw.meta, everything) == (list(expected.values()), [])


@pytest.mark.parametrize("line", [repr(FULL), ascii(FULL), json.dumps(FULL), json.dumps(FULL, ensure_ascii=False)])
def test_a_full_line(tmp_path: Path, line: str) -> None:
    path = written(tmp_path, *others(3), line)
    assert read_texts(path, pl.Series(["C000000002", ITEM, "none"])) == (["other 2", TEXT, ""], [])


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"title": None}, "Nûby Baby Toys & Games Soft &amp; safe.  It's fine."),
        ({"brand": ""}, "A 'B' \"C\" é  Baby Toys & Games Soft &amp; safe.  It's fine."),
        ({"categories": [[]]}, "A 'B' \"C\" é Nûby  Soft &amp; safe.  It's fine."),
        ({"categories": []}, "A 'B' \"C\" é Nûby  Soft &amp; safe.  It's fine."),
        ({"description": "\n"}, "A 'B' \"C\" é Nûby Baby Toys & Games"),
        (dict.fromkeys(("title", "brand", "categories", "description")), ""),
        ({"title": "half \ud83d", "brand": None, "categories": None, "description": None}, "half ?"),
    ],
)
def test_missing_parts_are_empty(tmp_path: Path, changed: dict[str, object], text: str) -> None:
    absent = {key: value for key, value in (FULL | changed).items() if value is not None}
    for record in (FULL | changed, absent):
        assert read_texts(written(tmp_path, ascii(record)), pl.Series([ITEM])) == ([text], [])


def test_an_item_named_in_another_items_description(tmp_path: Path) -> None:
    decoy = {"description": f"not 'asin': '{ITEM}'", "asin": "B000000002", "title": "decoy"}
    path = written(tmp_path, repr(decoy), repr(FULL), repr(decoy | {"asin": "D000000001"}))
    assert read_texts(path, pl.Series([ITEM, "B000000002"])) == ([TEXT, f"decoy   not 'asin': '{ITEM}'"], [])


def test_the_first_of_repeated_lines_is_used(tmp_path: Path) -> None:
    path = written(tmp_path, repr(FULL), repr(FULL | {"title": "second"}), *others(2), *others(2))
    texts, notes = read_texts(path, pl.Series([ITEM]))
    assert texts == [TEXT]
    assert notes == ["meta_Baby.json.gz: 1 repeated items, the first line of each was used"]


def test_nothing_in_a_line_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    call = f"__import__('os').system('touch {marker}')"
    hostile = [
        f"{{'asin': '{ITEM}', 'title': {call}}}",
        f"{call} or {{'asin': '{ITEM}'}}",
        f"{{'asin': '{ITEM}', 'title': f\"{{{call}}}\"}}",
        f"{{'asin': '{ITEM}'}}; {call}",
        f"[{call} for asin in 'x'] + ['asin', '{ITEM}']",
        call,
    ]
    path = written(tmp_path, *hostile, *others(20), repr(FULL))
    texts, (note,) = read_texts(path, pl.Series([ITEM, *(f"C{number:09}" for number in range(20))]))
    assert texts[:2] == [TEXT, "other 0"]
    assert note.startswith("meta_Baby.json.gz: 6 of 27 lines malformed and skipped (line 1: ")
    assert "is no Python literal (ValueError)" in note
    assert not marker.exists()


ASIN = f"'asin': '{ITEM}', 'x': ".encode()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"{" + ASIN + b"'" + b"a" * 10_000_000 + b"'}", r"10,000,\d+ bytes, expected at most 1,048,576"),
        (b"{" + ASIN + b"'\xff'}", "byte 0xff is not UTF-8"),
        (b"{" + ASIN + b"[" * 100_000, "is no Python literal"),
        (b"{" + ASIN + b"-" * 20_000 + b"1}", "is no Python literal"),
        (b"{" + ASIN + b"1+" * 20_000 + b"1}", "is no Python literal"),
        (b"{" + ASIN + b"a" + b"()" * 20_000 + b"}", "is no Python literal"),
        (b"{" + ASIN + b"not " * 20_000 + b"1}", "is no Python literal"),
        (b'{"asin": "B000000001", "x": ' + b"[" * 100_000, "recursion|is no Python literal"),
        (b"{" + ASIN + b"9" * 5000 + b"}", "is no Python literal"),
        (b"{" + ASIN + b"'\x00'}", "is no Python literal"),
        (b"{" + ASIN + b"{[]: 1}}", "is no Python literal"),
        (b"{" + ASIN, "is no Python literal"),
        (b"['asin', {" + ASIN + b"1}]", "no asin"),
        (b"{'asin' : 1}", "no asin"),
        (b"{'title': 'no id'}", "no asin"),
        (b"<html>", "is no Python literal"),
        (b"{" + ASIN + b"1, 'title': ['a']}", "title is of type list, expected text"),
        (b"{" + ASIN + b"1, 'categories': ['Baby']}", "categories are not a list of lists of text"),
        (b"{" + ASIN + b"1, 'categories': [[1]]}", "categories are not a list of lists of text"),
        (b"{" + ASIN + b"1, 'categories': {1: 2}}", "categories are not a list of lists of text"),
    ],
)
def test_a_malformed_line_is_counted_and_reported(tmp_path: Path, line: bytes, what: str) -> None:
    path = written(tmp_path, *others(2), line, *others(2))
    texts, (note, *_) = read_texts(path, pl.Series([ITEM, "C000000000", "C000000001"]))
    assert texts == ["", "other 0", "other 1"]
    assert note.startswith("meta_Baby.json.gz: 1 of 5 lines malformed and skipped (line 3: ")
    assert re.search(what, note)
    path = written(tmp_path, *others(2), *[line[:2_000_000]] * 11)
    with pytest.raises(DataError, match=r"meta_Baby\.json\.gz: 11 of 11 lines malformed, expected at most 5 \(line 3"):
        read_texts(path, pl.Series([ITEM]))


def test_malformed_lines_of_other_items_do_not_matter(tmp_path: Path) -> None:
    path = written(tmp_path, *["{'asin': 'D000000001', 'title': oops"] * 50, repr(FULL))
    assert read_texts(path, pl.Series([ITEM])) == ([TEXT], [])


def test_python_warnings_about_the_content_are_not_the_users(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = written(tmp_path, f"{{'asin': '{ITEM}', 'title': 'a \\d b'}}")
    assert read_texts(path, pl.Series([ITEM])) == (["a \\d b"], [])
    assert not recwarn.list


def test_truncated_missing_empty(raw: RawFiles, tmp_path: Path) -> None:
    path = tmp_path / "meta_Baby.json.gz"
    path.write_bytes(raw.meta.read_bytes()[: raw.meta.stat().st_size // 2])
    with pytest.raises(DataError, match=r"meta_Baby\.json\.gz: the compressed data end early, about line \d+;"):
        read_texts(path, pl.Series([ITEM]))
    path.write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        read_texts(path, pl.Series([ITEM]))
    with pytest.raises(DataError, match="no such file"):
        read_texts(tmp_path / "none.gz", pl.Series([ITEM]))


def test_nothing_wanted(raw: RawFiles) -> None:
    assert read_texts(raw.meta, pl.Series([], dtype=pl.String)) == ([], [])


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_never_do_more_than_count(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = [
        b"{" + ASIN + rng.integers(1, 256, size=40, dtype=np.uint8).tobytes().replace(b"\n", b"") for _ in range(200)
    ]
    texts, (note,) = read_texts(written(tmp_path, *content), pl.Series([ITEM]), tolerance=1)
    assert texts == [""]
    assert note.startswith("meta_Baby.json.gz: 200 of 200 lines malformed and skipped")
