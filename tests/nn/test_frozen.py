from __future__ import annotations

import pytest
import torch

from bm3_pyg.nn import features as frozen
from bm3_pyg.nn.features import frozen_table
from bm3_pyg.optim import RowTable


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_small_table_is_copied_in_half_precision(rows: int) -> None:
    features = torch.randn(rows, 3)
    table = frozen_table(features)
    assert torch.equal(table, features.half())
    gathered = RowTable(table, trainable=False).gather(torch.arange(rows))
    assert gathered.dtype == torch.float32
    torch.testing.assert_close(gathered, features, rtol=1e-3, atol=1e-6)


def test_a_small_table_is_not_shared() -> None:
    features = torch.randn(5, 3).half()
    table = frozen_table(features)
    features.zero_()
    assert table.any()


def test_a_large_table_is_read_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "LARGE_BYTES", 50)
    features = torch.randn(5, 3)
    assert frozen_table(features).data_ptr() == features.data_ptr()
    assert torch.equal(RowTable(frozen_table(features), trainable=False).gather(torch.tensor([4])), features[4:])


def test_values_beyond_half_precision_stay_single() -> None:
    features = torch.tensor([[1.0, 70000.0], [0.5, -3.0]])
    assert torch.equal(frozen_table(features), features)
