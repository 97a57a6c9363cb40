from __future__ import annotations

import gc
import multiprocessing
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from bm3_pyg.ops.cpu import FREE_BLOCKS, SMALL, Recycler, parallel


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


def test_rows_share_memory_however_many_they_are() -> None:
    memory, table = Recycler(), torch.empty(5, SMALL // 4)
    for count in (1, 600, 3, 1200, 599, 1024):
        held = memory.empty_rows(count, table)
        assert held.shape == (count, SMALL // 4)
        assert held.is_contiguous()
        del held
    few, many = memory.empty_rows(1, table), memory.empty_rows(3000, table)
    assert few.data_ptr() != many.data_ptr()
    del few, many
    gc.collect()
    (blocks,) = (blocks for blocks in memory._free.values() if blocks)
    assert [len(block) for block in blocks] == [3072 * SMALL]


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


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_every_part_is_done_once(threads: int, count: int) -> None:
    calls: list[tuple[int, str]] = []
    parallel(lambda i, name: calls.append((i, name)), ((i, str(i)) for i in range(count)))
    assert sorted(calls) == [(i, str(i)) for i in range(count)]


def test_as_many_threads_as_torch_uses_at_once(threads: int) -> None:
    barrier = threading.Barrier(threads, timeout=10)  # passed only if all of them are at work
    seen: set[int] = set()

    def meet() -> None:
        barrier.wait()
        seen.add(threading.get_ident())

    parallel(meet, [()] * threads)
    assert len(seen) == threads
    assert threading.get_ident() in seen


def test_an_error_in_a_part_is_raised(threads: int) -> None:
    def fail(i: int) -> None:
        if i == 7:
            raise ZeroDivisionError("part 7")

    with pytest.raises(ZeroDivisionError, match="part 7"):
        parallel(fail, [(i,) for i in range(20)])
    done: list[int] = []
    parallel(done.append, [(i,) for i in range(20)])
    assert len(done) == 20


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_loops_run_in_a_forked_process() -> None:
    done: list[int] = []
    parallel(done.append, [(i,) for i in range(20)])  # the threads it started do not survive the fork
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def child() -> None:
        parallel(queue.put, [(i,) for i in range(20)])

    process = context.Process(target=child)
    process.start()
    try:
        assert sorted(queue.get(timeout=10) for _ in range(20)) == sorted(done) == list(range(20))
        process.join(timeout=10)
        assert process.exitcode == 0  # it does not wait for threads that are not there
    finally:
        process.kill()
        process.join()
