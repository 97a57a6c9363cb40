from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from bm3_pyg.ops.cpu import parallel


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
