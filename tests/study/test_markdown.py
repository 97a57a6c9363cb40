from __future__ import annotations

from dataclasses import replace

import pytest

from bm3_pyg.study.blocks import Words
from bm3_pyg.study.content import Report
from bm3_pyg.study.document import document
from bm3_pyg.study.markdown import markdown_report


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
