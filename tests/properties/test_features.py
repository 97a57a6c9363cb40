"""The mean that fills missing features, over blocks of any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bm3_pyg.data import features


@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 7), st.data())
def test_missing_rows_get_the_mean_of_the_others(items: int, dim: int, block: int, data: st.DataObject) -> None:
    number = st.floats(-1e6, 1e6, width=32)
    rows = data.draw(st.lists(st.lists(number, min_size=dim, max_size=dim), min_size=items, max_size=items))
    missing = np.array(data.draw(st.lists(st.booleans(), min_size=items, max_size=items)))
    missing[data.draw(st.integers(0, items - 1))] = False
    values = np.array(rows, dtype=np.float32)
    expected = values.astype(np.float64)
    expected[missing] = expected[~missing].mean(axis=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "BLOCK", block)
        features.fill_missing(values, missing)
    np.testing.assert_array_equal(values[~missing], np.array(rows, dtype=np.float32)[~missing])
    np.testing.assert_allclose(values[missing], expected[missing], rtol=1e-6, atol=1e-6)
