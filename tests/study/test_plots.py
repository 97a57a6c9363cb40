"""Plots as SVG that a page can hold."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bm3_pyg.errors import ConfigError
from bm3_pyg.study.content import Curve, Report, Stratum
from bm3_pyg.study.plots import (
    SERIES,
    THEME,
    forest,
    loss_curves,
    new_figure,
    page_svg,
    strata_bars,
    strata_panels,
    themed,
    validation_curves,
)

pytest.importorskip("matplotlib")


PLOTS: dict[str, Callable[[Report, str], str]] = {
    "validation": lambda report, prefix: validation_curves(report.sections[0].curves, prefix),
    "losses": lambda report, prefix: loss_curves(report.sections[0].curves, prefix),
    "forest": lambda report, prefix: forest(report.sections[0].ablations, 0.05, prefix),
    "strata": lambda report, prefix: strata_bars(strata_panels(report.sections[0].strata), prefix),
}


def texts(svg: str) -> str:
    """Everything written in a plot, in one line."""
    written = [one.text or "" for one in ElementTree.fromstring(svg).iter() if one.tag.endswith("text")]
    return " ".join(" ".join(written).split())


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_is_sound_and_keeps_to_itself(name: str, made_report: Report) -> None:
    svg = PLOTS[name](made_report, "one")
    tree = ElementTree.fromstring(svg)  # which also refuses labels that are not escaped
    ids = [element.attrib["id"] for element in tree.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    assert all(one.startswith("one-") for one in ids)
    used = re.findall(r'(?:url\(|href=")#([^)"]+)', svg)
    assert set(used) <= set(ids)
    assert tree[0].tag == "title"
    assert tree[1].tag == "desc"
    assert tree[1].text
    assert "<style" not in svg
    assert "http" not in svg
    assert "var(--series-1" in svg
    assert "currentColor" in svg


def test_the_same_plot_twice_is_the_same_and_under_another_prefix_has_other_ids(made_report: Report) -> None:
    ids = [set(re.findall(r'\bid="([^"]+)"', PLOTS["losses"](made_report, prefix))) for prefix in ("one", "two", "one")]
    assert ids[0] == ids[2]
    assert not ids[0] & ids[1]


def test_labels_are_written_as_they_are(made_report: Report) -> None:
    assert "<script>alert(1)</script>" in texts(PLOTS["validation"](made_report, "x"))
    assert "without <image>" in texts(PLOTS["forest"](made_report, "x"))
    assert "_hidden" in texts(PLOTS["strata"](made_report, "x"))


def test_losses_that_are_zero_throughout_are_not_drawn(made_report: Report) -> None:
    found = texts(PLOTS["losses"](made_report, "x"))
    assert "masking" in found
    assert "alignment" not in found


def test_a_difference_is_filled_only_if_told_from_zero(made_report: Report) -> None:
    unclear, clear = made_report.sections[0].ablations
    doubtful = replace(clear, comparison=replace(clear.comparison, seeds_p=0.5))
    found = [forest([one], 0.05, "x").count("fill: var(--series-1") for one in (unclear, doubtful, clear)]
    halves = [forest([one], 0.05, "x").count("fill: var(--ground") for one in (unclear, doubtful, clear)]
    assert [count > 0 for count in found] == [False, True, True]
    assert [count > 0 for count in halves] == [False, True, False]


def test_of_many_models_the_highest_are_drawn_in_their_order() -> None:
    values = {f"model {place}": place / 100 for place in range(12)}
    found = texts(strata_bars([[Stratum("user activity", "1+", 5, "recall@20", values)]], "x"))
    shown = [label for label in values if f"{label} " in f"{found} "]
    assert shown == [f"model {place}" for place in range(12 - len(SERIES), 12)]


def test_panels_hold_the_first_metric_of_each_group() -> None:
    strata = [
        Stratum("user activity", "few", 5, "recall@20", {}),
        Stratum("user activity", "few", 5, "ndcg@20", {}),
        Stratum("item popularity", "few", 5, "hit@20", {}),
        Stratum("cold", "none", 5, "hit@20", {}),
    ]
    assert strata_panels(strata) == [[strata[0]], [strata[3], strata[2]]]


def test_a_run_of_one_epoch_and_many_labels_can_be_drawn() -> None:
    curves = [Curve(f"model {place}", 0, (1,), (0.0,), 1, {"total": (0.0,)}) for place in range(7)]
    assert "model 6" in texts(validation_curves(curves, "x"))
    assert "model 6" in texts(loss_curves(curves, "x"))


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"bm3-pyg\[report\]"):
        validation_curves([], "x")


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


def test_no_figure_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"bm3-pyg\[report\]"):
        draw("x")
