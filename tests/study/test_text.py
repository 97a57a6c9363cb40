"""Reports as Markdown and LaTeX, tables for a terminal."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bm3_pyg.study import description, metrics_table
from bm3_pyg.study.blocks import Words
from bm3_pyg.study.content import Report
from bm3_pyg.study.document import document
from bm3_pyg.study.text import latex, latex_report, markdown_report


def test_it_says_what_the_page_says(made_report: Report) -> None:
    text = markdown_report(made_report)
    shown = document(made_report)
    headings = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    assert headings[0] == "BM3 &amp; &lt;others&gt;"
    for part in shown.parts:
        assert part.title in headings
        for chapter in part.chapters:
            assert chapter.title in headings
    words = [
        one for part in shown.parts for chapter in part.chapters for one in chapter.blocks if isinstance(one, Words)
    ]
    assert all(sentence.split("<")[0] in text for block in words for sentence in block.sentences)
    assert text.count("*Plot on the page:") == 4


def test_the_best_and_those_within_noise(made_report: Report) -> None:
    lines = markdown_report(made_report).splitlines()
    assert any(line.startswith("| &lt;script&gt;") and "**0.1010 ± 0.0014**" in line for line in lines)
    assert any(line.startswith(r"| a_b&amp;c% $x$ #1 \| {y}") and "0.0910 ± 0.0014 ≈" in line for line in lines)


def test_hostile_labels_neither_break_tables_nor_become_tags(made_report: Report) -> None:
    text = markdown_report(made_report)
    outside, commands = text.split("```sh")
    assert "<" not in outside
    assert "<y>" in commands
    columns = 0
    for line in outside.splitlines():
        bars = line.replace(r"\|", "").count("|") if line.startswith("|") else 0
        assert not (bars and columns) or bars == columns
        columns = bars


@pytest.mark.parametrize("label", ["*a*", "`a`", "[a](b)", "two\nlines", "_a_", "back\\slash"])
def test_a_title_stays_words(label: str, made_report: Report) -> None:
    first = markdown_report(replace(made_report, title=label)).splitlines()[0]
    expected = {
        "*a*": r"# \*a\*",
        "`a`": r"# \`a\`",
        "[a](b)": r"# \[a\](b)",
        "two\nlines": "# two lines",
        "_a_": r"# \_a\_",
        "back\\slash": r"# back\\slash",
    }
    assert first == expected[label]


def test_backquotes_in_commands_do_not_end_them(made_report: Report) -> None:
    section = replace(made_report.sections[1], commands=("echo ```", "ls"))
    assert "````sh\necho ```\nls\n````" in markdown_report(replace(made_report, sections=(section,)))


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
def test_text_in_latex(text: str, expected: str) -> None:
    assert latex(text) == expected


def test_a_latex_table_for_each_section(made_report: Report) -> None:
    text = latex_report(made_report)
    assert re.findall(r"\\(begin|end)\{(\w+)\}", text) == 2 * [
        ("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table"),
    ]  # fmt: skip
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [2, 2, 2]
    assert re.findall(r"\\label\{(.*?)\}", text) == ["tab:results-1", "tab:results-2"]
    assert "booktabs" in text.splitlines()[0]


def test_in_latex_rows_have_as_many_cells_as_the_table_has_columns(made_report: Report) -> None:
    text = latex_report(made_report).split(r"\end{table}")[0]
    columns = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)[0]
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert columns == "lrrrrr"
    assert len(rows) == 4
    assert all(len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1 for row in rows)


def test_in_latex_the_best_are_bold_and_those_within_noise_marked(made_report: Report) -> None:
    text = latex_report(made_report)
    assert r"\textbf{0.1010 $\pm$ 0.0014}" in text
    assert r"0.0910 $\pm$ 0.0014$^{\approx}$ &" in text
    assert text.count(r"\textbf") == 4


def test_without_results_there_is_no_latex_table(made_report: Report) -> None:
    section = replace(made_report.sections[1], rows=())
    assert "table}" not in latex_report(replace(made_report, sections=(section,)))


def test_four_decimals_and_gaps() -> None:
    table = metrics_table({"ours": {"recall@20": 0.12345}, "theirs": {"ndcg@20": 0.5}}, ["recall@20", "ndcg@20"])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert lines[0] == ["", "Recall@20", "NDCG@20"]
    assert lines[2:] == [["ours", "0.1235", ""], ["theirs", "", "0.5000"]]


def test_a_dataset_card_says_everything_in_it() -> None:
    degree = {"min": 1, "median": 2.0, "mean": 2.5, "max": 1000}
    card = {
        "name": "shop",
        "users": 12000,
        "items": 8,
        "interactions": 72,
        "splits": {"train": 48, "val": 12, "test": 12},
        "split_users": {"train": 9000, "val": 11, "test": 10},
        "split_items": {"train": 7, "val": 6, "test": 5},
        "duplicates": {"train": 0, "val": 1234, "test": 2},
        "leaks": {"train-val": 0, "train-test": 0, "val-test": 0},
        "time": {"train": [0, 86399.5], "test": [86400, 1_400_000_000]},
        "sparsity": 0.99925,
        "degrees": {"user": degree, "item": degree},
        "users_without_training": 3,
        "cold_items": 1,
        "modalities": {"image": {"dim": 4096, "missing": 2}},
        "files": {"shop.inter": "abc"},
        "fingerprint": "def",
        "notes": [],
    }
    text = description(card)
    for part in ("shop", "12,000", "48, 12, 12", "99.9250%", "1 to 1,000", "4,096-d, 2 items without", "abc", "def"):
        assert part in text
    assert "12,000" in text.splitlines()[1]
    rows = dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in text.splitlines()[1:])
    assert rows["their users"] == "9,000, 11, 10"
    assert rows["their items"] == "7, 6, 5"
    assert rows["repeated in a split"] == "1,234 (val), 2 (test)"
    assert rows["in two splits"] == "none"
    assert rows["dates of train, UTC"] == "1970-01-01 to 1970-01-01"
    assert rows["dates of test, UTC"] == "1970-01-02 to 2014-05-13"
