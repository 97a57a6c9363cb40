from __future__ import annotations

import pytest

from bm3_pyg.study.blocks import Cell, Table, number, probability


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0.5, "0.500"), (0.001, "0.001"), (0.00099, "9.9e-04"), (0.0, "0.0e+00")]
)
def test_probabilities(value: float | None, text: str) -> None:
    assert probability(value) == Cell(text, value)


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(None, 4, ""), (1234567.0, 1, "1,234,567.0"), (9, 0, "9"), (-0.5, 4, "-0.5000")]
)
def test_numbers(value: float | None, digits: int, text: str) -> None:
    assert number(value, digits) == Cell(text, value)


def test_a_column_is_numeric_or_marked_if_any_cell_is() -> None:
    table = Table("", ("a", "b"), ((Cell("x"), Cell("")), (Cell("y"), Cell("1.0", 1.0, mark="≈"))))
    assert [table.numeric(column) for column in range(2)] == [False, True]
    assert [table.marked(column) for column in range(2)] == [False, True]
    assert not Table("", ("a",), ()).numeric(0)
