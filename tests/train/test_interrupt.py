from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from bm3_pyg.train.interrupt import stop_flag, terminable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_sets_the_flag_and_the_second_stops(number: int) -> None:
    before = signal.getsignal(number)
    with stop_flag() as flag:
        assert not flag.set
        os.kill(os.getpid(), number)
        assert flag.set
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_a_hangup_that_is_ignored_stays_so() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_flag() as flag, terminable():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not flag.set
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_is_installed() -> None:
    seen: list[bool] = []

    def work() -> None:
        with stop_flag() as flag:
            seen.append(flag.set)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def kill_within(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """Import a module that sends this process SIGTERM in its middle."""
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    return import_module(name)


KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n"


def test_an_import_is_not_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @terminable()
    def command() -> None:
        module = kill_within(KILL + "whole = True\n", tmp_path, monkeypatch, "interrupted_once")
        assert module.whole
        time.sleep(10)

    with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM"):
        command()
    assert sys.modules["interrupted_once"].whole


def test_a_second_signal_interrupts_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM"), terminable():
        kill_within(2 * KILL, tmp_path, monkeypatch, "interrupted_twice")
    assert "interrupted_twice" not in sys.modules


def test_what_a_signal_breaks_is_an_interrupt() -> None:
    @terminable()
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("half a module") from None

    with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM"):
        command()
    with pytest.raises(ImportError), terminable():
        raise ImportError


def test_a_panic_that_a_signal_makes_is_an_interrupt() -> None:
    """Rust's panic is a BaseException, not an Exception."""

    class PanicException(BaseException):
        pass

    @terminable()
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise PanicException from None

    with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM"):
        command()
    with pytest.raises(PanicException), terminable():
        raise PanicException


@pytest.mark.parametrize("library", ["polars", "llvmlite"])
def test_compiled_code_that_calls_python_is_not_interrupted(library: str) -> None:
    done: list[bool] = []
    source = f"{KILL}done.append(True)\n"

    @terminable()
    def command() -> None:
        exec(compile(source, f"/site-packages/{library}/series.py", "exec"), {"done": done})
        time.sleep(10)

    with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM"):
        command()
    assert done


def test_a_signal_that_was_swallowed_stops_training() -> None:
    with terminable():
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        with stop_flag() as flag:
            assert flag.set
    with terminable(), stop_flag() as flag:
        assert not flag.set
