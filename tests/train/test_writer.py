"""Writes beside training: in order, not in its way, and none after one that failed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from bm3_pyg.errors import WriteError
from bm3_pyg.files import append_text
from bm3_pyg.train.writer import Writer


@contextmanager
def held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A disk on which nothing is safe before the event is set."""
    go, flush = threading.Event(), os.fsync

    def slow(descriptor: int) -> None:
        assert go.wait(60)
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", slow)
        try:
            yield go
        finally:
            go.set()


def test_training_goes_on_while_the_disk_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved may change meanwhile; what follows waits for it."""
    writer, weight = Writer(), torch.zeros(5)
    with held_up(monkeypatch):
        writer.save(tmp_path / "best.pt", {"weight": weight})
        writer.do(partial(append_text, tmp_path / "history.jsonl", "one\n"))
        weight += 1
        time.sleep(0.05)
        names = [path.name for path in tmp_path.iterdir()]
        assert len(names) == 1
        assert names[0].startswith(".best.pt")
    writer.wait(tmp_path / "best.pt")
    assert torch.load(tmp_path / "best.pt")["weight"].tolist() == [0] * 5
    writer.close()
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", "history.jsonl"}


def test_all_is_done_in_order() -> None:
    done: list[int] = []
    writer = Writer()
    for number in range(100):
        writer.do(partial(done.append, number))
    writer.wait()
    assert done == list(range(100))
    writer.do(partial(done.append, 100))
    writer.close()
    assert done[-1] == 100


def test_nothing_is_done_after_a_failure(tmp_path: Path, small_files: Callable[[int], Any]) -> None:
    done: list[int] = []
    writer = Writer()
    writer.save(tmp_path / "best.pt", {"weight": torch.zeros(10)})
    writer.wait()
    before = (tmp_path / "best.pt").read_bytes()
    with small_files(10_000), pytest.raises(WriteError, match=r"best\.pt: cannot be written \(the file would be"):
        writer.save(tmp_path / "best.pt", {"weight": torch.zeros(1_000_000)})
    for call in (partial(writer.do, partial(done.append, 1)), writer.wait):
        with pytest.raises(WriteError, match="cannot be written"):
            call()
    writer.close()
    assert not done
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]
    assert (tmp_path / "best.pt").read_bytes() == before


def test_a_failure_beside_is_raised_by_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    writer = Writer()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        writer.save(tmp_path / "last.pt", {"weight": torch.zeros(10)})
        with pytest.raises(WriteError, match=r"last\.pt: cannot be written \(the disk is full\)"):
            writer.wait()
    writer.close()
    assert not list(tmp_path.iterdir())


def test_an_interrupt_gives_up_what_is_not_in_its_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on its way to the disk gets there; a checkpoint that the caller still waits for does not."""
    writer = Writer()
    with held_up(monkeypatch) as go:
        writer.save(tmp_path / "best.pt", {"weight": torch.zeros(10)})

        wait = threading.Event.wait

        def interrupted(self: threading.Event, timeout: float | None = None) -> bool:
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            return wait(self, timeout)

        with monkeypatch.context() as patch:
            patch.setattr("bm3_pyg.train.writer.Event.wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                writer.save(tmp_path / "last.pt", {"weight": torch.ones(10)})
        go.set()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_a_writer_stays_behind_when_a_process_forks(tmp_path: Path) -> None:
    writer = Writer()
    writer.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        writer.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    writer.close()


def test_a_large_checkpoint_is_given_up_within(tmp_path: Path) -> None:
    writer = Writer()
    writer._given_up.set()
    writer.save(tmp_path / "last.pt", {"weight": torch.zeros(10)})
    writer.close()
    assert not list(tmp_path.iterdir())
