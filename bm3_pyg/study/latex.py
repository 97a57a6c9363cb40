"""The table of test results as LaTeX, to be put into an article with ``\\input``."""

from __future__ import annotations

import re

from bm3_pyg.study.blocks import Cell, Table
from bm3_pyg.study.content import Report
from bm3_pyg.study.document import document
from bm3_pyg.study.figures import NOISE, results_table

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    NOISE: r"$^{\approx}$",
    **{character: f"\\{character}" for character in "#$%&_"},
}


def latex_report(report: Report) -> str:
    """One ``table`` for each section that has results; needs the package booktabs."""
    report = report.printable()
    names = [part.title for part in document(report).parts]
    found = [
        _table(table, name, place)
        for place, (name, section) in enumerate(zip(names, report.sections, strict=True), 1)
        if (table := results_table(section)) is not None
    ]
    return "\n".join([r"% \usepackage[T1]{fontenc} and \usepackage{booktabs} in the preamble", *found]) + "\n"


def escape(text: str) -> str:
    """Text as LaTeX shows it, in one line."""
    return re.sub(".", lambda found: SPECIAL.get(found.group(), found.group()), " ".join(text.split()))


def _table(table: Table, name: str, place: int) -> str:
    columns = "".join("r" if table.numeric(column) else "l" for column in range(len(table.headers)))
    notes = " ".join(map(escape, table.notes)).replace(r"see Significance", "see the report")
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{Test results on {escape(name)}. {notes}}}",
        rf"\label{{tab:results-{place}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row([escape(header) for header in table.headers]),
        r"\midrule",
        *(_row([_cell(cell) for cell in row]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return (rf"\textbf{{{text}}}" if cell.bold else text) + escape(cell.mark)


def _row(cells: list[str]) -> str:
    return rf"{' & '.join(cells)} \\"
