from __future__ import annotations

from typing import Any

import pytest

from bm3_pyg.train import progress
from bm3_pyg.train.progress import Progress

RECORD: dict[str, Any] = {"epoch": 3, "loss": {"total": 1.25}, "val": {"recall@20": 0.0815}, "train_seconds": 0.5}


def test_plain_lines_away_from_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    shown = Progress(9, verbose=True)
    shown.epoch(RECORD, 2, {"recall@20": 0.09})
    shown.close()
    line = "epoch    3/9  loss 1.2500  val recall@20 0.0815  best 0.0900 (epoch 2)  0.50 s\n"
    assert capsys.readouterr().err == line


def test_the_first_epoch_and_the_last_are_always_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 3600.0)
    shown = Progress(9, verbose=True)
    shown.epoch({**RECORD, "epoch": 1}, 0, {})
    assert "epoch    1/9" in capsys.readouterr().err
    shown.epoch({**RECORD, "epoch": 2}, 0, {})
    shown.epoch(RECORD, 0, {})
    assert capsys.readouterr().err == ""
    shown.close()
    assert "epoch    3/9" in capsys.readouterr().err


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(9, verbose=False)
    shown.epoch(RECORD, 0, {})
    shown.close()
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    shown = Progress(9, verbose=True)
    shown.step(1, 4)
    shown.epoch(RECORD, 2, {"recall@20": 0.09})
    shown.close()
    err = capsys.readouterr().err
    assert "1/9" in err
    assert "best 0.0900 (epoch 2)" in err
