from __future__ import annotations

from dataclasses import replace

import pytest

from bm3_pyg.study.blocks import Table, spread_text
from bm3_pyg.study.content import Published, Report, Spread
from bm3_pyg.study.figures import published, results, results_table, significance

BEST, CLOSE, FAR = "<script>alert(1)</script>", "a_b&c% $x$ #1 | {y}", "_hidden"


def test_the_best_are_bold_and_those_within_noise_marked(made_report: Report) -> None:
    shown = results_table(made_report.sections[0])
    assert shown is not None
    assert shown.headers == ("model", "seeds", "Recall@10", "Recall@20", "NDCG@10", "NDCG@20")
    cells = {row[0].text: row[3] for row in shown.rows}
    assert [label for label, cell in cells.items() if cell.bold] == [BEST]
    assert {label: cell.mark for label, cell in cells.items()} == {CLOSE: "≈", BEST: "", FAR: ""}
    assert cells[CLOSE].text == "0.0910 ± 0.0014"
    assert cells[CLOSE].value == pytest.approx(0.091)


def test_rows_that_were_not_tested_are_named(made_report: Report) -> None:
    shown = results_table(made_report.sections[0])
    assert shown is not None
    assert any(
        f"Not tested in every metric, so a missing mark means nothing there: {CLOSE}, {FAR}." == note
        for note in shown.notes
    )
    alone = results_table(made_report.sections[1])
    assert alone is not None
    assert len(alone.notes) == 1


def test_without_rows_there_is_no_table(made_report: Report) -> None:
    bare = made_report.sections[1]
    assert results_table(replace(bare, rows=())) is None
    assert results(replace(bare, rows=())) == []


def test_every_metric_stands_in_a_table_of_its_own_if_there_are_more_than_the_headline(made_report: Report) -> None:
    full, bare = made_report.sections
    every = results(full)[1]
    assert isinstance(every, Table)
    assert every.headers == ("model", "metric", "@10", "@20", "@50")
    assert [cell.text for cell in every.rows[0]][:3] == [CLOSE, "Recall", "0.0460 ± 0.0014"]
    assert len(every.rows) == 3 * 2
    assert len(results(bare)) == 1


def test_one_note_for_all_the_sources_it_is_about(made_report: Report) -> None:
    figures = tuple(Published(source, {"recall@20": 0.1}, "swapped") for source in ("one", "two"))
    (table,) = published(replace(made_report.sections[0], published=figures))
    assert isinstance(table, Table)
    assert table.notes == ("one, two: swapped",)


def test_a_table_for_each_model_that_others_are_compared_with(made_report: Report) -> None:
    section = made_report.sections[0]
    turned = [replace(one, first=one.second, second=one.first) for one in section.comparisons[:1]]
    blocks = significance(replace(section, comparisons=(*section.comparisons, *turned)))
    captions = [block.caption for block in blocks if isinstance(block, Table)]
    assert captions == [f"{BEST} minus the other (paired t-test)", f"{CLOSE} minus the other (paired t-test)"]
    assert significance(replace(section, comparisons=())) == []


def test_a_column_for_seeds_only_where_they_were_tested(made_report: Report) -> None:
    section = made_report.sections[0]
    without = significance(replace(section, comparisons=section.comparisons[1:]))[1]
    with_seeds = significance(section)[1]
    assert isinstance(without, Table)
    assert isinstance(with_seeds, Table)
    assert "p over seeds" in with_seeds.headers
    assert "p over seeds" not in without.headers
    assert {len(row) for table in (without, with_seeds) for row in table.rows} == {8, 9}


@pytest.mark.parametrize(("deviation", "text"), [(None, "0.1000"), (0.0, "0.1000 ± 0.0000")])
def test_one_seed_has_no_deviation(deviation: float | None, text: str) -> None:
    assert spread_text(Spread(0.1, deviation, (0.1,))) == text
