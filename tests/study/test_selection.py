"""Selection on validation, and what a sweep's table lets one see."""

from __future__ import annotations

import json
from pathlib import Path

from bm3_pyg.study.content import HEADLINE
from bm3_pyg.study.search import Setting
from bm3_pyg.study.selection import PROTOCOLS, Outcome, results, select, sweep_table, write_results

LEFT, RIGHT, OTHER = Setting("bm3", ("num_layers=1",)), Setting("bm3", ("num_layers=2",)), Setting("popularity")


def outcome(setting: Setting, seed: int, val: float, test: float) -> Outcome:
    return Outcome(setting, seed, Path("x"), {"recall@20": val}, dict.fromkeys(HEADLINE, test))


def case() -> list[Outcome]:
    """The left setting is better on validation, the right one on test."""
    return [
        outcome(LEFT, 0, 0.30, 0.21),
        outcome(LEFT, 1, 0.32, 0.23),
        outcome(RIGHT, 0, 0.29, 0.51),
        outcome(RIGHT, 1, 0.31, 0.55),
        outcome(OTHER, 0, 0.1, 0.125),
        outcome(OTHER, 1, 0.1, 0.125),
    ]


def test_selection_is_on_validation_and_only_the_selected_test_figures_are_shown() -> None:
    assert select(case()) == {"bm3": LEFT, "popularity": OTHER}
    table = sweep_table(case())
    assert "**bm3 num_layers=1**" in table
    assert "0.2200 ± 0.0141" in table
    assert "0.53" not in table
    assert "0.1250" in table
    assert PROTOCOLS["strict"] in table
    assert "Settings tried: bm3 2, popularity 1" in table
    assert [run["test"] != {} for run in results(case())["runs"]] == [True, True, False, False, True, True]


def test_the_common_practice_selects_on_test_and_is_labelled() -> None:
    assert select(case(), "mmrec")["bm3"] == RIGHT
    table = sweep_table(case(), "mmrec")
    assert "**bm3 num_layers=2**" in table
    assert "0.5300" in table
    assert "NOT OURS" in table


def test_the_common_practice_rounds_first() -> None:
    runs = [outcome(LEFT, 0, 0.1, 0.100049), outcome(RIGHT, 0, 0.1, 0.10004)]
    assert select(runs, "mmrec")["bm3"] == LEFT  # a tie once rounded: the first stays
    runs.reverse()
    assert select(runs, "mmrec")["bm3"] == RIGHT


def test_an_unfinished_setting_is_not_selected_and_a_failed_run_is_named() -> None:
    runs = case()
    runs[1] = Outcome(LEFT, 1, Path("x"), error="loss is not finite")
    assert select(runs)["bm3"] == RIGHT
    table = sweep_table(runs)
    assert "1 of 2" in table
    assert "FAILED: bm3 num_layers=1, seed 1: loss is not finite" in table
    assert select([Outcome(LEFT, 0, Path("x"))]) == {}
    assert "0 of 1" in sweep_table([Outcome(LEFT, 0, Path("x"))])


def test_written_results_can_be_read(tmp_path: Path) -> None:
    write_results(case(), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results(case())
    assert (tmp_path / "table.md").read_text() == sweep_table(case()) + "\n"
