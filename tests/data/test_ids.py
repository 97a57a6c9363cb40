from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bm3_pyg.data.ids import first_appearance, integers_if_canonical, positions, to_array, to_series


@pytest.mark.parametrize(
    ("texts", "integers"),
    [
        (["1", "20", "0", "-3"], True),
        (["9223372036854775807"], True),
        (["9223372036854775808"], False),
        (["1", "007"], False),
        (["1", "+2"], False),
        (["1", "2.0"], False),
        (["1", " 2"], False),
        (["-0"], False),
        (["a"], False),
    ],
)
def test_canonical_integers(texts: list[str], integers: bool) -> None:
    ids = integers_if_canonical(pl.Series(texts))
    assert (ids.dtype == pl.Int64) is integers
    assert ids.cast(pl.String).to_list() == texts


def test_positions_is_the_naive_one() -> None:
    rng = np.random.default_rng(0)
    catalogue = rng.permutation(50)
    asked = rng.integers(70, size=200)
    expected = [catalogue.tolist().index(one) if one in catalogue else -1 for one in asked]
    for own in (pl.Series(catalogue), pl.Series(catalogue).cast(pl.String)):
        for ids in (pl.Series(asked), pl.Series(asked).cast(pl.String)):
            assert positions(own, ids).tolist() == expected


def test_first_appearance_is_the_naive_one() -> None:
    ids = ["b", "a", "b", "c", "a"]
    catalogue, at = first_appearance(pl.Series(ids))
    assert catalogue.to_list() == list(dict.fromkeys(ids)) == ["b", "a", "c"]
    assert at.tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("ids", [["b", "ü", "a\tb"], [3, 1, 2]])
def test_arrays_and_series(ids: list[object]) -> None:
    array = to_array(pl.Series(ids))
    assert array.dtype.kind in "iO"
    assert array.flags.writeable
    assert to_series(array).to_list() == ids
