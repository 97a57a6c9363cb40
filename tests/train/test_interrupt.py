from __future__ import annotations

import os
import signal
import threading

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
