from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bm3_pyg.study.content import Report
from bm3_pyg.study.latex import escape, latex_report


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a_b&c% $x$ #1", r"a\_b\&c\% \$x\$ \#1"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("~^|", r"\textasciitilde{}\textasciicircum{}\textbar{}"),
        ("0.1 ± 0.2 ≈", r"0.1 $\pm$ 0.2 $^{\approx}$"),
        ("two\nlines", "two lines"),
        ("<i>", r"\textless{}i\textgreater{}"),
    ],
)
def test_escapes(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_a_table_for_each_section(made_report: Report) -> None:
    text = latex_report(made_report)
    assert re.findall(r"\\(begin|end)\{(\w+)\}", text) == 2 * [
        ("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table"),
    ]  # fmt: skip
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [2, 2, 2]
    assert re.findall(r"\\label\{(.*?)\}", text) == ["tab:results-1", "tab:results-2"]
    assert "booktabs" in text.splitlines()[0]


def test_rows_have_as_many_cells_as_the_table_has_columns(made_report: Report) -> None:
    text = latex_report(made_report).split(r"\end{table}")[0]
    columns = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)[0]
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert columns == "lrrrrr"
    assert len(rows) == 4
    assert all(len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1 for row in rows)


def test_the_best_are_bold_and_those_within_noise_marked(made_report: Report) -> None:
    text = latex_report(made_report)
    assert r"\textbf{0.1010 $\pm$ 0.0014}" in text
    assert r"0.0910 $\pm$ 0.0014$^{\approx}$ &" in text
    assert text.count(r"\textbf") == 4


def test_without_results_there_is_no_table(made_report: Report) -> None:
    section = replace(made_report.sections[1], rows=())
    assert "table}" not in latex_report(replace(made_report, sections=(section,)))
