from __future__ import annotations

import gc

import pytest
import torch

from bm3_pyg.ops.cpu import FREE_BLOCKS, SMALL, Recycler


def test_memory_comes_back_only_when_nobody_sees_it() -> None:
    memory, like = Recycler(), torch.empty(SMALL, dtype=torch.float)
    first = memory.empty_like(like)
    assert first.data_ptr() % 64 == 0
    address, view = first.data_ptr(), first[5:9]
    del first
    assert memory.empty_like(like).data_ptr() != address  # the view still shows it
    del view
    held = [memory.empty_like(like) for _ in range(2)]
    assert address in [x.data_ptr() for x in held]
    many = [memory.empty_like(like) for _ in range(2 * FREE_BLOCKS)]
    del many, held
    gc.collect()
    assert sum(map(len, memory._free.values())) == FREE_BLOCKS


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("columns", [4, 64, SMALL // 64])
def test_tensors_are_contiguous_alike_and_apart(columns: int, dtype: torch.dtype) -> None:
    memory = Recycler()
    like = torch.empty(columns, 17, dtype=dtype).T  # not contiguous
    tensors = [memory.empty_like(like) for _ in range(3)]
    for value, tensor in enumerate(tensors):
        assert (tensor.shape, tensor.dtype) == (like.shape, dtype)
        assert tensor.is_contiguous()
        tensor.fill_(value)
    assert [tensor.unique().tolist() for tensor in tensors] == [[0], [1], [2]]


def test_memory_is_kept_by_size_and_small_tensors_not_at_all() -> None:
    memory = Recycler()
    for size in (SMALL - 1, SMALL, SMALL + 1):
        tensor = memory.empty_like(torch.empty(size, dtype=torch.uint8))
        del tensor
    assert {size: len(blocks) for size, blocks in memory._free.items()} == {SMALL: 1, SMALL + 1: 1}


def test_memory_seen_by_a_graph_of_autograd_stays() -> None:
    memory, like = Recycler(), torch.empty(SMALL)
    saved = memory.empty_like(like).fill_(3.0)
    x = torch.ones(SMALL, requires_grad=True)
    product = (x * saved).sum()
    del saved
    memory.empty_like(like).fill_(7.0)
    product.backward()
    assert x.grad is not None
    assert x.grad.eq(3).all()
