from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bm3_pyg.data import delimited
from bm3_pyg.data.delimited import Rows, parse_delimited
from bm3_pyg.errors import DataError

PATH = Path("x.csv")


def parse(text: str | bytes, separator: str = ",", names: list[str] | None = None) -> Rows:
    return parse_delimited(PATH, text if isinstance(text, bytes) else text.encode(), separator, names)


def lines(rows: Rows) -> list[int]:
    return list(range(rows.lines, rows.lines + rows.frame.height)) if isinstance(rows.lines, int) else [*rows.lines]


def rated(comments: list[str], separator: str = ",", end: str = "\n") -> str:
    """A table of users, items and comments as a program writes it that knows no quotes."""
    rows = [f"u{row}{separator}i{row}{separator}{comment}" for row, comment in enumerate(comments)]
    return end.join([f"user{separator}item{separator}comment", *rows, ""])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("text", "expected", "at"),
    [
        ("a,b\n1,2\n3,4\n", [("1", "2"), ("3", "4")], [2, 3]),
        ("a,b\n1,2\n3,4", [("1", "2"), ("3", "4")], [2, 3]),
        ("\n\na,b\n1,2\n\n\n3,4\n\n\n", [("1", "2"), ("3", "4")], [4, 7]),
        ("a,b,\n1,2,\n3,4,\n", [("1", "2"), ("3", "4")], [2, 3]),
        ("a,b\n1,2,\n3,4,,,\n", [("1", "2"), ("3", "4")], [2, 3]),
        ("a,b,,\n1,2\n3,4,\n", [("1", "2"), ("3", "4")], [2, 3]),
        ("a,b\n1,2\n,\n  \n3,4\n,\n", [("1", "2"), ("3", "4")], [2, 5]),
        ('a,b\n1,2\n"",\n3,4\n"",""\n', [("1", "2"), ("3", "4")], [2, 4]),
        ("a,b\n1\n,4\n", [("1", None), (None, "4")], [2, 3]),
        ('a,b\n"1","2"\n"3",4\n', [("1", "2"), ("3", "4")], [2, 3]),
        ('a,b\n"1,5",""\n"""3""","a""b"\n', [("1,5", None), ('"3"', 'a"b')], [2, 3]),
        ('a,b\n7" screen,2\n3,4"\n', [('7" screen', "2"), ("3", '4"')], [2, 3]),
        ('a,b\n"7" screen,2\n3,"4" or "5"\n', [('"7" screen', "2"), ("3", '"4" or "5"')], [2, 3]),
        ('a,b\n"open,2\n3,4\n', [('"open', "2"), ("3", "4")], [2, 3]),
        ('a,b\n1,"open\n3,4\n', [("1", '"open'), ("3", "4")], [2, 3]),
        ('a,b\n 1, "2"\n3 ,4\n', [(" 1", ' "2"'), ("3 ", "4")], [2, 3]),
        ("sep=;\n a;b \n1;2\n3;4\n", [("1", "2"), ("3", "4")], [3, 4]),
        ("# all clicks\n#\n# of 2014, by day\na,b\n1,2\n#3,4\n", [("1", "2"), ("#3", "4")], [5, 6]),
    ],
)
def test_lines_are_rows(text: str, expected: list[tuple[str, ...]], at: list[int], end: str) -> None:
    rows = parse(text.replace("\n", end))
    assert rows.frame.columns == ["a", "b"]
    assert rows.frame.rows() == expected
    assert lines(rows) == at
    assert rows.notes == []


@pytest.mark.parametrize("separator", [",", ";", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quoted_fields_run_over_lines(separator: str, end: str) -> None:
    text = 'a,b,c\n1,"two\n\nlines, ""quoted""",3\n4,,6\n"7\n",8,"9\n"\n'.replace(",", separator).replace("\n", end)
    rows = parse(text, separator)
    told = 'two\n\nlines, "quoted"'.replace(",", separator).replace("\n", end)
    assert rows.frame.rows() == [("1", told, "3"), ("4", None, "6"), (f"7{end}", "8", f"9{end}")]
    assert lines(rows) == [2, 5, 6]


@pytest.mark.parametrize("last", [11, 12, 300, 479])
@pytest.mark.parametrize("pair", ['"great bad"', '" "', '""great bad"', '"great ""', '"great bad""'])
def test_stray_quotes_in_tab_separated_comments(pair: str, last: int) -> None:
    comments = [f"so {row}" for row in range(480)]
    comments[10], comments[last] = pair.split()
    rows = parse(rated(comments, "\t"), "\t")
    assert rows.frame.height == 480
    assert rows.frame["user"].to_list() == [f"u{row}" for row in range(480)]
    assert lines(rows) == list(range(2, 482))


@pytest.mark.parametrize("last", [11, 300])
def test_stray_quotes_between_commas_are_refused(last: int) -> None:
    comments = [f"so {row}" for row in range(480)]
    comments[10], comments[last] = '"great', 'bad"'
    with pytest.raises(DataError, match=rf"^x\.csv: lines 12 to {last + 2}: a quote opens in the first and closes in"):
        parse(rated(comments))


def test_stray_quotes_beside_quoted_line_ends_are_told() -> None:
    comments = [f"so {row}" for row in range(20)]
    comments[10], comments[15], comments[18] = '"great', 'bad"', '"two\nlines"'
    rows = parse(rated(comments))
    assert rows.notes == [
        "x.csv: 1 rows run over lines, such as 12 to 17, that would be rows by themselves; stray quotes?"
    ]
    assert rows.frame.height == 15


def test_quotes_are_characters_where_only_that_gives_all_cells() -> None:
    rows = parse('a\tb\tc\td\n1\t2\t"3\t4"\n', "\t")
    assert rows.frame.rows() == [("1", "2", '"3', '4"')]


def test_a_lone_return_ends_a_line_where_that_gives_whole_rows_and_is_a_character_elsewhere() -> None:
    assert parse("a,b\n1,2\r3,4\r\n5,6\n").frame.rows() == [("1", "2"), ("3", "4"), ("5", "6")]
    assert parse("a,b\n1,2\r3\n5,6\n").frame.rows() == [("1", "2\r3"), ("5", "6")]


@pytest.mark.parametrize("text", ["a,b\n1,2\n1,2,3\n", 'a,b\n1,"2"\n1,2,3\n', "a,b\n1,2\n,,3\n"])
def test_more_cells_than_columns(text: str) -> None:
    with pytest.raises(DataError, match=r"^x\.csv: line 3: 3 cells, expected 2 as in the header$"):
        parse(text)


def test_names_that_stand_twice() -> None:
    rows = parse("a,b,a,,a (2)\n1,2,3,4,5\n")
    assert rows.frame.columns == ["a", "b", "a (3)", "", "a (2)"]
    assert rows.frame.rows() == [("1", "2", "3", "4", "5")]
    assert rows.repeated == {"a"}


def test_names_for_text_without_a_header() -> None:
    assert parse("1,2\n3,4\n", names=["a", "b"]).frame.rows() == [("1", "2"), ("3", "4")]
    assert lines(parse("\n1,2\n3,4\n", names=["a", "b"])) == [2, 3]
    assert parse("a,b\n3,4\n", names=["a", "b"]).frame.rows() == [("3", "4")]
    assert parse("1,2\n3,4\n", names=["a", "b", "c"]).frame.rows() == [("1", "2", None), ("3", "4", None)]
    with pytest.raises(DataError, match="line 1: 2 cells, expected 1 as columns are named"):
        parse("1,2\n3,4\n", names=["a"])


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
def test_proper_quotes_are_found_in_blocks_of_any_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK", block)
    draw = random.Random(0)
    cell = '(?:[^",\n]*|"(?:[^"\n]|"")*")'
    for _ in range(300):
        body = "".join(draw.choice('a,"\n') for _ in range(draw.randint(1, 12)))
        proper = re.fullmatch(f"{cell}(?:[,\n]{cell})*", body)
        expected = 1 + len(re.sub('"(?:[^"]|"")*"|a', "", body)) if proper else None
        assert delimited._proper_cells(body.encode(), ",") == expected


def test_many_rows_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "CHUNK", 3)
    rows = parse("a,b\n" + "".join(f'{n},7" x\n' for n in range(10)))
    assert rows.frame["a"].to_list() == list(map(str, range(10)))
    assert lines(rows) == list(range(2, 12))
    assert rows.frame.schema == {"a": pl.String, "b": pl.String}
    assert isinstance(rows.lines, np.ndarray)
