from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bm3_pyg.errors import ConfigError
from bm3_pyg.train.progress import tensorboard


def test_epochs_become_events(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write = tensorboard(tmp_path)
    for epoch, loss in ((1, 3.0), (2, 2.0)):
        write({"epoch": epoch, "loss": {"total": loss}, "val": {"recall@20": 0.5}, "train_seconds": 1.0})
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/total")] == [(1, 3.0), (2, 2.0)]
    assert len(events.Scalars("val/recall@20")) == 2


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'bm3-pyg\[tensorboard\]'"):
        tensorboard(tmp_path)
