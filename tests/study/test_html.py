from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bm3_pyg.errors import ConfigError
from bm3_pyg.study.content import Report, Spread
from bm3_pyg.study.html import html_report, write_report

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Counts elements, collects ids and references, and sees that what opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.ids: list[str] = []
        self.references: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.references += [found[key] or "" for key in ("src", "href", "xlink:href", "action") if key in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_well_formed_and_stands_alone(made_report: Report) -> None:
    text = html_report(made_report)
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(one.startswith(("#", "data:")) for one in page.references)
    assert {one[1:] for one in page.references if one.startswith("#")} <= set(page.ids)
    assert not re.search(r"@import|https?://|url\((?!#)", text)


def test_labels_are_words_and_never_markup(made_report: Report) -> None:
    page = Page(html_report(made_report))
    assert page.count["script"] == 1
    assert "b" not in page.count
    assert page.words.count("<script>alert(1)</script>") > 5
    assert "bm3 train shop --set 'x=<y>' --seed 0\nbm3 train shop --seed 1" in page.words
    assert "shop: no seed 2 of <b>far</b>" in page.words


def test_every_plot_and_table_is_there_once(made_report: Report) -> None:
    page = Page(html_report(made_report))
    assert page.count["svg"] == 4
    assert page.count["h1"] == 1
    assert page.count["h2"] == 2
    assert page.count["h3"] == 15 + 3


def test_a_single_section_has_no_heading_of_its_own(made_report: Report) -> None:
    page = Page(html_report(replace(made_report, sections=made_report.sections[1:], warnings=())))
    assert page.count["h2"] == 3
    assert "h3" not in page.count
    assert "Read this first" not in page.words


def test_four_files_of_one_report(made_report: Report, tmp_path: Path) -> None:
    paths = write_report(made_report, tmp_path / "report.html")
    assert [path.name for path in paths] == ["report.html", "report.md", "report.json", "report.tex"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    assert json.loads(paths[2].read_text()) == json.loads(json.dumps(made_report.plain()))
    assert write_report(made_report, tmp_path / "UPPER.HTML")[0].name == "UPPER.HTML"
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_report(made_report, tmp_path / "report.html")] == before


def test_numbers_that_json_lacks_are_null(made_report: Report, tmp_path: Path) -> None:
    section = made_report.sections[1]
    row = replace(section.rows[0], test={"recall@20": Spread(float("nan"), None, (float("inf"),))})
    write_report(replace(made_report, sections=(replace(section, rows=(row,)),)), tmp_path / "a.html")
    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert found["sections"][0]["rows"][0]["test"]["recall@20"] == {"mean": None, "deviation": None, "values": [None]}


def test_nothing_is_written_where_one_format_fails(
    made_report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigError, match=r"bm3-pyg\[report\]"):
        write_report(made_report, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "words"), [("report.pdf", "expected .html"), ("no/report.html", "expected one that")])
def test_where_it_cannot_go(made_report: Report, tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        write_report(made_report, tmp_path / name)
