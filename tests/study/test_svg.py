from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import pytest

from bm3_pyg.errors import ConfigError
from bm3_pyg.study.plots import SERIES, THEME, new_figure, page_svg, themed

pytest.importorskip("matplotlib")


@themed
def draw(prefix: str) -> str:
    figure = new_figure(2)
    axes = figure.subplots()
    axes.plot([0, 1, 2], [0, 1 / 3, 1], "o-", color=SERIES[1])
    axes.set_title('$x$ <b> & id="me" #d55e00 1.23456')
    return page_svg(figure, prefix, "a <name>", "what & why")


def test_ids_have_the_prefix_and_references_follow() -> None:
    svg = draw("one")
    ids = re.findall(r'\bid="([^"]+)"', re.sub(r">[^<]*<", "><", svg))
    assert ids
    assert len(ids) == len(set(ids))
    assert all(one.startswith("one-") for one in ids)
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg)) <= set(ids)


def test_colours_are_the_page_s() -> None:
    tags = re.findall(r"<[^>]+>", draw("x"))
    assert any("var(--series-2, #d55e00)" in tag for tag in tags)
    assert any("currentColor" in tag for tag in tags)
    bare = " ".join(tags).replace("var(--series-2, #d55e00)", "")
    assert not any(colour in bare for colour in THEME)


def test_words_are_text_and_untouched() -> None:
    tree = ElementTree.fromstring(draw("x"))
    assert '$x$ <b> & id="me" #d55e00 1.23456' in [one.text for one in tree.iter() if one.tag.endswith("text")]
    assert (tree[0].text, tree[1].text) == ("a <name>", "what & why")


def test_nothing_is_left_that_would_reach_the_page_or_the_network() -> None:
    svg = draw("x")
    assert "<style" not in svg
    assert "http" not in svg
    assert not re.search(r' d="[^"]*\d\.\d{3}', svg)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"bm3-pyg\[report\]"):
        draw("x")
