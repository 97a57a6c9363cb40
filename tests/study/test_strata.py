"""Bins of training interactions against a plain loop."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bm3_pyg.study.stats import ACTIVITY, POPULARITY, strata


@pytest.mark.parametrize(("bounds", "highest"), [(ACTIVITY, 30), (POPULARITY, 300), (POPULARITY, 4), ((3,), 9)])
def test_means_of_bins_are_those_of_a_plain_loop(bounds: tuple[int, ...], highest: int) -> None:
    rng = np.random.default_rng(highest)
    counts, values = rng.integers(bounds[0], highest + 1, 200), rng.random(200)
    table = pl.DataFrame({"training_interactions": counts, "x": values, "hit": values > 0.5})
    found = strata(table, bounds, ["x", "hit"])
    expected = []
    for low, high in zip(bounds, [*bounds[1:], 10**9], strict=True):
        inside = [value for count, value in zip(counts, values, strict=True) if low <= count < high]
        if inside:
            name = f"{low}+" if high == 10**9 else str(low) if high == low + 1 else f"{low}-{high - 1}"
            expected.append((name, len(inside), sum(inside) / len(inside), sum(v > 0.5 for v in inside) / len(inside)))
    assert [row[:2] for row in found.rows()] == [row[:2] for row in expected]
    for row, wanted in zip(found.rows(), expected, strict=True):
        assert row[2:] == pytest.approx(wanted[2:])


def test_cold_items_have_a_bin_of_their_own_and_empty_bins_are_left_out() -> None:
    table = pl.DataFrame({"training_interactions": [0, 0, 100], "hit": [False, True, True]})
    assert strata(table, POPULARITY, ["hit"]).rows() == [("0", 2, 0.5), ("100+", 1, 1.0)]
    assert strata(table.clear(), POPULARITY, ["hit"]).is_empty()
