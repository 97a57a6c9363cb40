"""Names of others in files that people open: nothing in them is obeyed, by terminal, browser, Markdown or LaTeX."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bm3_pyg.data import load_dataset
from bm3_pyg.data.prepared import write_prepared
from bm3_pyg.study.content import Report
from bm3_pyg.study.html import write_report
from bm3_pyg.study.search import Setting
from bm3_pyg.study.selection import Outcome, write_results

HOSTILE = (
    "\x1b]0;owned\x07",
    "\x9b31m\x00",
    "a\u202egnp",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "](javascript:alert(1))",
    "a|b`c`",
    "two\n\n# lines",
    "\\input{/etc/passwd}%",
    "\udcff",
)
OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def check_markdown(text: str) -> None:
    assert not OBEYED.search(text)
    outside = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<" not in outside
    assert "](javascript" not in outside.replace("\\](javascript", "")
    assert "\n# lines" not in text
    columns = 0
    for line in outside.splitlines():
        bars = line.replace(r"\|", "").count("|") if line.startswith("|") else 0
        assert not (bars and columns) or bars == columns, line
        columns = bars


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_report(made_report: Report, tmp_path: Path, name: str) -> None:
    section = made_report.sections[1]
    row = replace(section.rows[0], label=name, settings=name)
    hostile = replace(
        section,
        dataset={"name": name, "modalities": {name: {"dim": 4}}, "files": {name: "0" * 64}},
        rows=(row,),
        warnings=(name,),
        protocol=(name,),
        environment={name: name},
        searches=(name,),
    )
    paths = write_report(replace(made_report, title=name, sections=(hostile,), warnings=(name,)), tmp_path / "r.html")
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert not OBEYED.search(text), path.suffix
    page, written, _, latex = (path.read_text(encoding="utf-8") for path in paths)
    tags = Tags(page)
    assert tags.found.count("script") == 1
    assert "img" not in tags.found
    assert "onerror" not in tags.attributes
    check_markdown(written)
    assert "\\input" not in latex


def test_a_prepared_folder(shop: Path, tmp_path: Path) -> None:
    sources = {}
    for place, name in enumerate(HOSTILE):
        sources[name] = tmp_path / str(place)
        sources[name].write_text("x")
    data = load_dataset(shop)
    data.notes = list(HOSTILE)
    steps = [{"step": name, "dropped": 1, "left": 2} for name in HOSTILE]
    write_prepared(data, tmp_path / "out", settings=dict.fromkeys(HOSTILE, "<b>|"), sources=sources, steps=steps)
    text = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    check_markdown(text)
    assert text.count("&lt;script&gt;") == 4


def test_a_sweeps_table(tmp_path: Path) -> None:
    outcomes = [Outcome(Setting("bm3", (name,)), 0, tmp_path, {}, {}, name) for name in HOSTILE]
    write_results(outcomes, tmp_path)
    check_markdown((tmp_path / "table.md").read_text(encoding="utf-8"))
