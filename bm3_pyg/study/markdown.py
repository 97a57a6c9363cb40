"""A report as Markdown: the page's words and tables; its plots are named, and their figures stand in the tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tabulate import tabulate

from bm3_pyg.escape import markdown
from bm3_pyg.study.blocks import Block, Cell, Commands, Plot, Table, Words
from bm3_pyg.study.content import Report
from bm3_pyg.study.document import document


def markdown_report(report: Report) -> str:
    """The whole report; what comes from labels and warnings is escaped."""
    shown = document(report)
    parts = [f"# {markdown(shown.title)}", *map(markdown, shown.lead)]
    if shown.warnings:
        parts += ["**Read this first**", _list(shown.warnings)]
    for part in shown.parts:
        parts.append(f"## {markdown(part.title)}")
        for chapter in part.chapters:
            parts.append(f"### {markdown(chapter.title)}")
            parts += [_block(block) for block in chapter.blocks]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Words):
        return _list(block.sentences) if block.listed else "\n\n".join(map(markdown, block.sentences))
    if isinstance(block, Table):
        return "\n\n".join([f"**{markdown(block.caption)}**", _table(block), *map(markdown, block.notes)])
    if isinstance(block, Plot):
        return f"*Plot on the page: {markdown(block.caption)}*"
    return _fenced(block)


def _table(table: Table) -> str:
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    align = ["right" if table.numeric(column) else "left" for column in range(len(table.headers))]
    headers = [markdown(header) for header in table.headers]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=align if rows else None)


def _cell(cell: Cell) -> str:
    text = markdown(cell.text)
    return (f"**{text}**" if cell.bold else text) + (f" {cell.mark}" if cell.mark else "")


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {markdown(line)}" for line in lines)


def _fenced(commands: Commands) -> str:
    text = "\n".join(commands.lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"
