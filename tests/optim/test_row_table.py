from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bm3_pyg.errors import ConfigError
from bm3_pyg.optim import DeferredAdam
from bm3_pyg.optim.row_table import RowTable


def deferred(steps: int = 20) -> tuple[RowTable, nn.Parameter]:
    """A table with owed moves, and the same rows after dense Adam."""
    start = torch.randn(10, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table, twin = RowTable(start.clone()), nn.Parameter(start.clone())
    optimizer, dense = DeferredAdam(table.parameters(), [table], lr=1e-2), torch.optim.Adam([twin], lr=1e-2)
    for step in range(steps):
        rows = torch.tensor([step % 7, 7])
        optimizer.zero_grad()
        dense.zero_grad()
        table.gather(rows).square().sum().backward()
        twin[rows].square().sum().backward()
        optimizer.step()
        dense.step()
    assert not torch.allclose(table.stored, twin)
    return table, twin


def test_plain_table_is_plain_autograd() -> None:
    table, linear = RowTable(torch.randn(6, 3)), nn.Linear(3, 2)
    rows = torch.tensor([4, 1])
    table.project(rows, linear).square().sum().backward()
    weight = table.stored.detach().clone().requires_grad_()
    nn.functional.linear(weight[rows], linear.weight, linear.bias).square().sum().backward()
    assert type(table.weight.grad) is torch.Tensor
    torch.testing.assert_close(table.weight.grad, weight.grad)
    assert [name for name, _ in table.named_parameters()] == ["weight"]
    assert table.gather(torch.tensor([1, 1, 0])).shape == (3, 3)
    table.flush()


def test_every_way_to_read_shows_rows_up_to_date() -> None:
    table, twin = deferred()
    linear = nn.Linear(4, 2, bias=False).double()
    rows = torch.tensor([9, 0, 3, 3])
    stored = table.stored.detach().clone()
    torch.testing.assert_close(table.gather(rows), twin[rows])
    torch.testing.assert_close(table.project(rows, linear), linear(twin[rows]))
    with torch.no_grad():
        torch.testing.assert_close(table.project(rows, linear), linear(twin[rows]))
    torch.testing.assert_close(torch.cat(list(table.iter_rows(block=3))), twin.detach())
    torch.testing.assert_close(table.state_dict()["weight"], twin.detach())
    torch.testing.assert_close(nn.ModuleDict({"a": table}).state_dict()["a.weight"], twin.detach())
    copied = copy.deepcopy(table)
    assert torch.equal(table.stored, stored)  # nothing above wrote
    assert copied.deferral is None
    torch.testing.assert_close(copied.weight, twin)
    torch.testing.assert_close(table.weight, twin)
    assert torch.equal(table.weight, table.stored)


def test_flush_twice_and_train_on() -> None:
    table, twin = deferred()
    table.flush()
    once = table.stored.detach().clone()
    table.flush()
    assert torch.equal(once, table.stored)
    torch.testing.assert_close(once, twin.detach())


def test_pickle_is_of_an_up_to_date_table_without_optimizer() -> None:
    table, twin = deferred()
    file = io.BytesIO()
    torch.save(table, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    torch.testing.assert_close(loaded.weight, twin)
    assert loaded.trainable


def test_memory_is_used_again() -> None:
    """Backward and step need the rows read; once no one does, the next pass writes into the same memory."""
    table, linear = RowTable(torch.randn(600, 600)), nn.Linear(600, 2)
    optimizer = DeferredAdam([*table.parameters(), *linear.parameters()], [table])
    places = set()
    loss = torch.zeros(())
    for step in range(8):  # the last loss keeps its graph while the next one is built, as in any training loop
        loss = table.project(torch.arange(500 + step), linear).sum()
        optimizer.zero_grad()
        loss.backward()
        part = table.stored.grad.parts[0]  # type: ignore[union-attr]
        places.add(part.read.data_ptr())
        del part
        optimizer.step()
    assert len(places) <= 2
    first, second = (table.project(torch.tensor([row, row + 1]), linear) for row in (0, 5))
    optimizer.zero_grad()
    (first.sum() * 2 + second.sum()).backward()
    expected = 2 * table.gather(torch.tensor([0, 1])).sum(0) + table.gather(torch.tensor([5, 6])).sum(0)
    torch.testing.assert_close(linear.weight.grad, expected.detach().repeat(2, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8])
def test_frozen_table_of_any_dtype(dtype: torch.dtype) -> None:
    table = RowTable((torch.rand(6, 3) * 10).to(dtype), trainable=False)
    rows = table.gather(torch.tensor([5, 0, 5]))
    assert rows.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(rows, table.weight[[5, 0, 5]].to(rows.dtype))
    assert list(table.parameters()) == []
    assert table.state_dict() == {}
    linear = nn.Linear(3, 2, dtype=rows.dtype)
    table.project(torch.tensor([1, 2]), linear).sum().backward()
    assert linear.weight.grad is not None


def test_frozen_table_may_be_memory_mapped(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float16).reshape(4, 3)
    np.save(tmp_path / "x.npy", values)
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="r+"))
    table = RowTable(mapped, trainable=False)
    assert table.weight.data_ptr() == mapped.data_ptr()
    assert torch.equal(table.gather(torch.tensor([3])), torch.tensor([[9.0, 10.0, 11.0]]))


def test_bad_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected"):
        RowTable(torch.zeros(3))
    with pytest.raises(ConfigError, match="float32 or float64"):
        RowTable(torch.zeros(3, 2, dtype=torch.float16))
