from __future__ import annotations

import logging
import threading
import time

import pytest

from bm3_pyg import waiting as module
from bm3_pyg.waiting import _tell, waiting


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_told", set())


def until_told(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(1000):
        if caplog.messages:
            return
        time.sleep(0.01)


def test_what_lasts_is_told_while_it_lasts_and_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    with caplog.at_level(logging.INFO, "bm3_pyg.waiting"):
        with waiting("reading the features"):
            until_told(caplog)
        assert caplog.messages == ["reading the features ..."]
        with waiting("reading the features"):
            assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())


def test_what_is_over_before_is_not_told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[threading.Timer] = []
    monkeypatch.setattr(module, "SECONDS", 2.0)
    monkeypatch.setattr(threading.Timer, "start", lambda timer: timers.append(timer))
    with caplog.at_level(logging.INFO, "bm3_pyg.waiting"), waiting("reading"):
        pass
    (timer,) = timers
    assert timer.interval == 2.0
    assert timer.finished.is_set()
    assert timer.daemon
    assert not caplog.messages


def test_python_by_itself_is_silent(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "Timer", None)  # not even made
    with caplog.at_level(logging.WARNING, "bm3_pyg.waiting"), waiting("reading"):
        pass
    assert not caplog.messages


def test_an_error_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "bm3_pyg.waiting"), pytest.raises(ValueError, match="bad"), waiting("reading"):
        raise ValueError("bad")
    assert not caplog.messages


def test_two_threads_that_wait_for_one_thing_tell_it_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "bm3_pyg.waiting"):
        for _ in range(2):
            _tell("compiling twice")
    assert caplog.messages == ["compiling twice ..."]
