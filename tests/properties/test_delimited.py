"""Text tables of any cells: what was written is read, no row is lost, and the fast way agrees."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bm3_pyg.data import delimited
from bm3_pyg.data.delimited import Rows, parse_delimited
from bm3_pyg.errors import DataError


def parse(text: str, separator: str = ",") -> Rows:
    return parse_delimited(Path("x.csv"), text.encode(), separator)


def lines(rows: Rows) -> list[int]:
    return list(range(rows.lines, rows.lines + rows.frame.height)) if isinstance(rows.lines, int) else [*rows.lines]


CELLS = st.text(alphabet='ab1,;\t"\r\n \u2028é#', max_size=6)


@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=8),
    separator=st.sampled_from(",;|"),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@example([("\n,,", "", "")], ",", "\n", csv.QUOTE_MINIMAL)
def test_what_a_csv_writer_writes_is_read_or_refused(
    rows: list[tuple[str, str, str]], separator: str, end: str, quoting: int
) -> None:
    if end == "\n" and quoting == csv.QUOTE_MINIMAL:  # then the writer leaves \r without quotes
        rows = [(one.replace("\r", " "), two.replace("\r", " "), three.replace("\r", " ")) for one, two, three in rows]
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([("a", "b", "c"), *rows])
    try:
        found = parse(file.getvalue(), separator)
    except DataError as error:
        if "whole row by itself" in str(error):
            return
        raise
    assert found.frame.rows() == [tuple(cell or None for cell in row) for row in rows if any(row)]


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_lines_without_quoting_are_never_lost(rows: list[tuple[str, str]], end: str) -> None:
    """A program that writes tabs and no quotes, and comments with any quotes in them."""
    clean = [tuple(cell.translate(dict.fromkeys(map(ord, "\t\r\n"), " ")) for cell in row) for row in rows]
    text = "id\tcomment\tother" + end + "".join(f"{n}\t{a}\t{b}{end}" for n, (a, b) in enumerate(clean))
    found = parse(text, "\t")
    assert found.frame["id"].to_list() == [str(number) for number in range(len(rows))]


@given(st.text(alphabet='ab,"\n\r# ', max_size=40))
def test_the_fast_way_and_the_careful_way_agree(text: str) -> None:
    whole = f"a,b\n{text}"
    try:
        rows = parse(whole)
    except DataError:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "_parse_regular", lambda *_: None)
        careful = parse(whole)
    assert rows.frame.equals(careful.frame)
    assert lines(rows) == lines(careful)
