"""What a report is made of, whatever it is shown as: words, tables, plots and commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bm3_pyg.study.content import Spread


@dataclass(frozen=True)
class Cell:
    """A table's cell; sorted by ``value`` where it has one, otherwise by its text."""

    text: str
    value: float | None = None
    bold: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Words:
    """Paragraphs, or the points of a list."""

    sentences: tuple[str, ...]
    listed: bool = False
    kind: ClassVar[str] = "words"


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    folded: bool = False
    """Long and of second rank: closed at first, where a format can do that."""
    kind: ClassVar[str] = "table"

    def numeric(self, column: int) -> bool:
        """Whether the column holds numbers, to be set flush right."""
        return any(row[column].value is not None for row in self.rows)

    def marked(self, column: int) -> bool:
        """Whether the column has marks, for which its other cells leave room."""
        return any(row[column].mark for row in self.rows)


@dataclass(frozen=True)
class Plot:
    """A picture, drawn only by the formats that show it."""

    caption: str
    draw: Callable[[str], str]
    """From a prefix for its ids, which must be unique in a page, to SVG."""
    kind: ClassVar[str] = "plot"


@dataclass(frozen=True)
class Commands:
    """Lines for a shell."""

    lines: tuple[str, ...]
    kind: ClassVar[str] = "commands"


Block = Words | Table | Plot | Commands


@dataclass(frozen=True)
class Chapter:
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Part:
    """All about one dataset under one protocol."""

    title: str
    chapters: tuple[Chapter, ...]


@dataclass(frozen=True)
class Document:
    """A report in the order of reading."""

    title: str
    lead: tuple[str, ...]
    warnings: tuple[str, ...]
    parts: tuple[Part, ...]


def table(
    caption: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[object]],
    notes: Iterable[str] = (),
    folded: bool = False,
) -> list[Block]:
    """A table of cells and words; none if it has no rows."""
    cells = tuple(tuple(cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row) for row in rows)
    return [Table(caption, tuple(headers), cells, tuple(notes), folded)] if cells else []


def number(value: float | None, digits: int = 4, unit: str = "") -> Cell:
    """Fixed decimals, thousands separated; an empty cell for None."""
    return Cell("") if value is None else Cell(f"{value:,.{digits}f}{unit}", value)


def probability(value: float | None) -> Cell:
    if value is None:
        return Cell("")
    return Cell(f"{value:.3f}" if value >= 0.001 else f"{value:.1e}", value)


def spread_cell(spread: Spread | None) -> Cell:
    return Cell("") if spread is None else Cell(spread_text(spread), spread.mean)


def spread_text(spread: Spread) -> str:
    return f"{spread.mean:.4f}" + ("" if spread.deviation is None else f" ± {spread.deviation:.4f}")
