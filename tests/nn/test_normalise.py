"""Normalised features against loops over rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bm3_pyg.nn import features as normalise
from bm3_pyg.nn.features import normalised


def twin(features: Tensor) -> list[list[float]]:
    rows = features.double().tolist()
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    centred = [[x - m for x, m in zip(row, mean, strict=True)] for row in rows]
    return [[x / sum(y * y for y in row) ** 0.5 for x in row] for row in centred]


@pytest.mark.parametrize("block", [1, 30, 2**22])
def test_rows_are_centred_and_of_unit_length(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalise, "BLOCK", block)
    torch.manual_seed(0)
    features = torch.randn(23, 7, dtype=torch.float64) * 100 + 5
    before = features.clone()
    found = normalised(features, torch.float64)
    torch.testing.assert_close(found, torch.tensor(twin(features), dtype=torch.float64), rtol=1e-12, atol=1e-14)
    assert torch.equal(features, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_row_filled_with_the_mean_becomes_zero(dtype: torch.dtype) -> None:
    features = (torch.randn(50, 64, generator=torch.Generator().manual_seed(1)) + 3).to(dtype)
    features[[4, 9]] = features[10:].double().mean(0).to(dtype)
    features[:10] = features[4]
    features[10:] += features[4] - features[10:].double().mean(0).to(dtype)
    found = normalised(features, torch.float32)
    assert not found[:10].any()
    torch.testing.assert_close(found[10:].norm(dim=1), torch.ones(40))


def test_half_precision_from_a_file(tmp_path: Path) -> None:
    features = torch.randn(40, 9).half()
    np.save(tmp_path / "x.npy", features.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c"))
    found = normalised(mapped, torch.float16)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), torch.tensor(twin(features)), rtol=1e-3, atol=1e-3)
    assert torch.equal(mapped, features)


def test_one_item_and_none() -> None:
    assert not normalised(torch.ones(1, 3), torch.float32).any()
    assert normalised(torch.ones(0, 3), torch.float32).shape == (0, 3)
