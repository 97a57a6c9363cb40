"""Tables as text: a report as Markdown and its results as LaTeX, metrics and a dataset's card for a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from bm3_pyg.data.summary import facts
from bm3_pyg.escape import markdown
from bm3_pyg.names import SPLITS
from bm3_pyg.study.blocks import Block, Cell, Commands, Plot, Table, Words, number
from bm3_pyg.study.content import HEADLINE, Report, metric_title
from bm3_pyg.study.document import document
from bm3_pyg.study.figures import NOISE, results_table

LATEX = {
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


def metrics_table(rows: Mapping[str, Mapping[str, float]], metrics: Sequence[str] = HEADLINE) -> str:
    """One row a name, one column a metric, four decimals; a metric that a row lacks stays empty."""
    body = [[name, *(number(values.get(metric)).text for metric in metrics)] for name, values in rows.items()]
    align = ["left", *["right"] * len(metrics)]
    return tabulate(body, ["", *map(metric_title, metrics)], tablefmt="github", disable_numparse=True, colalign=align)


def description(card: Mapping[str, Any]) -> str:
    """The dataset card of :func:`bm3_pyg.data.describe` as text."""

    def each(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{counts[split]:,}" for split in SPLITS)

    def some(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{count:,} ({where})" for where, count in counts.items() if count) or "none"

    rows = [
        *facts(card),
        ("train, val, test", each(card["splits"])),
        ("their users", each(card["split_users"])),
        ("their items", each(card["split_items"])),
        ("repeated in a split", some(card["duplicates"])),
        ("in two splits", some(card["leaks"])),
        *((f"sha256 of {name}", digest) for name, digest in card["files"].items()),
        ("fingerprint", card["fingerprint"]),
    ]
    return f"{card['name'] or 'dataset'}\n{tabulate(rows, tablefmt='plain', disable_numparse=True)}"


def markdown_report(report: Report) -> str:
    """The page's words and tables; plots are named, labels and warnings escaped."""
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
        table = _table(block, "github", markdown, _markdown_cell)
        return "\n\n".join([f"**{markdown(block.caption)}**", table, *map(markdown, block.notes)])
    if isinstance(block, Plot):
        return f"*Plot on the page: {markdown(block.caption)}*"
    return _fenced(block)


def _markdown_cell(cell: Cell) -> str:
    text = markdown(cell.text)
    return (f"**{text}**" if cell.bold else text) + (f" {cell.mark}" if cell.mark else "")


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {markdown(line)}" for line in lines)


def _fenced(commands: Commands) -> str:
    text = "\n".join(commands.lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def latex_report(report: Report) -> str:
    """One ``table`` of test results for each section that has any, for an article's ``\\input``; needs booktabs."""
    report = report.printable()
    names = [part.title for part in document(report).parts]
    tables = [
        _latex_table(table, name, place)
        for place, (name, section) in enumerate(zip(names, report.sections, strict=True), 1)
        if (table := results_table(section)) is not None
    ]
    return "\n".join([r"% \usepackage[T1]{fontenc} and \usepackage{booktabs} in the preamble", *tables]) + "\n"


def latex(text: str) -> str:
    """Text as LaTeX shows it, in one line."""
    return re.sub(".", lambda character: LATEX.get(character[0], character[0]), " ".join(text.split()))


def _latex_table(table: Table, name: str, place: int) -> str:
    body = _table(table, "latex_raw", latex, _latex_cell)
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        body = body.replace(r"\hline", rule, 1)
    notes = " ".join(map(latex, table.notes)).replace("see Significance", "see the report")
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{Test results on {latex(name)}. {notes}}}",
        rf"\label{{tab:results-{place}}}",
        body,
        r"\end{table}",
    ]
    return "\n".join(lines)


def _latex_cell(cell: Cell) -> str:
    text = latex(cell.text)
    return (rf"\textbf{{{text}}}" if cell.bold else text) + latex(cell.mark)


def _table(table: Table, form: str, escaped: Callable[[str], str], cell: Callable[[Cell], str]) -> str:
    rows = [list(map(cell, row)) for row in table.rows]
    align = ["right" if table.numeric(column) else "left" for column in range(len(table.headers))]
    headers = [escaped(header) for header in table.headers]
    return tabulate(rows, headers, tablefmt=form, disable_numparse=True, colalign=align if rows else None)
