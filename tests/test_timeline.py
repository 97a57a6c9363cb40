from __future__ import annotations

import contextvars
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bm3_pyg import timeline
from bm3_pyg.timeline import PARTS, Timeline, part, process_start, recorded


class Clock:
    """Goes on by as much as it is told, for all that ask."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def test_a_part_within_a_part_counts_for_itself_alone(clock: Clock) -> None:
    with recorded(since=97.0) as times:
        clock.now += 1
        with part("train"):
            clock.now += 10
            with part("compile"):
                clock.now += 4
            clock.now += 5
        clock.now += 2
    expected = {"start": 3.0, "train": 15.0, "compile": 4.0, "other": 3.0}
    assert times.count() == {"seconds": dict.fromkeys(PARTS, 0.0) | expected}


def test_an_error_ends_its_part(clock: Clock) -> None:
    @part("rank")
    def stopped() -> None:
        clock.now += 1
        raise KeyboardInterrupt

    with recorded() as times:
        with pytest.raises(KeyboardInterrupt):
            stopped()
        clock.now += 2
    assert (times.seconds["rank"], times.count()["seconds"]["other"]) == (1.0, 2.0)


def test_what_a_thread_does_beside_is_told_apart(clock: Clock) -> None:
    def save() -> None:
        with part("write"):
            clock.now += 7

    with recorded() as times, part("train"), ThreadPoolExecutor(1) as pool:
        pool.submit(contextvars.copy_context().run, save).result()
        pool.submit(save).result()  # of no run
    assert times.count()["seconds_beside"] == {"write": 7.0}
    assert times.seconds["write"] == 0
    assert "7.00         write    beside it, in threads" in times.table()


def test_the_timeline_around_is_the_one_that_counts(clock: Clock) -> None:
    with recorded() as outer:
        with recorded() as inner, part("read"):
            clock.now += 1
        assert inner is outer
    with recorded() as another:
        assert another is not outer
    assert outer.seconds["read"] == 1


def test_nothing_is_counted_without_one() -> None:
    @part("write")
    def work() -> int:
        return 3

    assert work() == 3


def test_the_table_has_every_part_its_share_and_the_sum(clock: Clock) -> None:
    times = Timeline(since=75.0)
    clock.now += 75
    lines = times.table().splitlines()
    assert len(lines) == len(PARTS) + 2
    assert lines[1].split()[:3] == ["25.00", "25.0%", "start"]
    assert lines[-2].split()[:3] == ["75.00", "75.0%", "other"]
    assert lines[-1].split() == ["100.00", "100.0%", "in", "all"]


def test_the_process_began_before_this_module() -> None:
    assert time.perf_counter() - 3600 * 24 < process_start() <= timeline.IMPORTED


@pytest.mark.parametrize("stat", ["", "1 (a) b) S 1", "1 (python) S " + "0 " * 40])
def test_where_the_system_does_not_tell_it_is_the_import(
    stat: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("proc") / "stat"
    file.write_text(stat)
    monkeypatch.setattr("builtins.open", lambda *_, **__: file.open())
    assert process_start() == timeline.IMPORTED
