from __future__ import annotations

import pytest
import torch

from bm3_pyg.nn import RowTable, frozen
from bm3_pyg.nn.frozen import frozen_table


@pytest.mark.parametrize("limit", [0, 2**28])
@pytest.mark.parametrize("rows", [0, 1, 7, 4097])
def test_half_precision_in_memory_and_on_disk(monkeypatch: pytest.MonkeyPatch, limit: int, rows: int) -> None:
    monkeypatch.setattr(frozen, "LARGE_BYTES", limit)
    features = torch.randn(rows, 3)
    table = frozen_table(features)
    assert torch.equal(table, features.half())
    gathered = RowTable(table, trainable=False).gather(torch.arange(rows))
    assert gathered.dtype == torch.float32
    torch.testing.assert_close(gathered, features, rtol=1e-3, atol=1e-6)


def test_the_callers_tensor_is_not_shared() -> None:
    features = torch.randn(5, 3).half()
    table = frozen_table(features)
    features.zero_()
    assert table.any()


@pytest.mark.parametrize("limit", [0, 2**28])
def test_values_beyond_half_precision_stay_single(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(frozen, "LARGE_BYTES", limit)
    features = torch.tensor([[1.0, 70000.0], [0.5, -3.0]])
    assert torch.equal(frozen_table(features), features)
