"""Nearest rows against all cosines, written out and sorted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.ops.topk import GRID, nearest_rows


def twin(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Every pair, in float64."""
    rows = features.double().tolist()
    ids, cosines = [], []
    for i, x in enumerate(rows):
        found = []
        for j, y in enumerate(rows):
            norms = (sum(a * a for a in x) * sum(b * b for b in y)) ** 0.5
            cosine = sum(a * b for a, b in zip(x, y, strict=True)) / norms if norms else 0.0
            if j != i:
                found.append((-round(cosine * GRID) / GRID, j))
        best = sorted(found)[:k]
        ids.append([j for _, j in best])
        cosines.append([-minus for minus, _ in best])
    return torch.tensor(ids), torch.tensor(cosines)


@pytest.fixture(params=["numba", "torch"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_KERNELS", request.param)
    torch.manual_seed(0)


@pytest.mark.parametrize("memory_mb", [0.0001, 0.01, 64])
@pytest.mark.parametrize(("count", "k"), [(2, 1), (33, 5), (40, 100)])
def test_float64_rows_are_those_of_the_twin(count: int, k: int, memory_mb: float) -> None:
    features = torch.randn(count, 7, dtype=torch.float64)
    ids, cosines = nearest_rows(features, k, memory_mb=memory_mb)
    expected_ids, expected = twin(features, k)
    assert torch.equal(ids, expected_ids)
    torch.testing.assert_close(cosines, expected.double(), rtol=0, atol=1.5 / GRID)


@pytest.mark.parametrize("memory_mb", [0.001, 64])
def test_equal_and_zero_rows_go_by_id(memory_mb: float) -> None:
    """One row stands many times, as missing features filled alike do; others are zero."""
    features = torch.randn(60, 33) * 50
    features[7:30] = features[7]
    features[[0, 31, 45]] = 0
    ids, cosines = nearest_rows(features, 5, memory_mb=memory_mb)
    assert ids[7].tolist() == [8, 9, 10, 11, 12]
    assert ids[20].tolist() == [7, 8, 9, 10, 11]
    assert torch.equal(cosines[7:30], torch.ones(23, 5))
    assert ids[0].tolist() == [1, 2, 3, 4, 5]
    assert not cosines[[0, 31, 45]].any()


def test_half_precision_from_a_file(tmp_path: Path) -> None:
    features = torch.randn(50, 9).half()
    np.save(tmp_path / "x.npy", features.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c"))
    ids, cosines = nearest_rows(mapped, 6, memory_mb=0.01)
    expected_ids, expected = twin(features, 6)
    assert cosines.dtype == torch.float32
    torch.testing.assert_close(cosines, expected.float(), rtol=0, atol=2 / GRID)
    assert (ids == expected_ids).float().mean() > 0.99


def test_one_row_has_no_neighbour() -> None:
    assert [tuple(x.shape) for x in nearest_rows(torch.ones(1, 4), 3)] == [(1, 0), (1, 0)]
    assert nearest_rows(torch.ones(0, 4), 3)[0].shape == (0, 0)


def test_bad_input_is_refused() -> None:
    features = torch.ones(4, 2)
    with pytest.raises(ConfigError, match=r"^k: got 0, expected an integer at least 1"):
        nearest_rows(features, 0)
    with pytest.raises(DataError, match=r"got features \[4\], expected \[I, d\]"):
        nearest_rows(features[:, 0], 1)
    features[2, 1] = torch.nan
    with pytest.raises(DataError, match="row 2 holds NaN"):
        nearest_rows(features, 1)
