"""History as TensorBoard events (extra ``tensorboard``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bm3_pyg.errors import ConfigError
from bm3_pyg.files import writing


def tensorboard(folder: str | Path) -> Callable[[dict[str, Any]], None]:
    """A callback for :func:`~bm3_pyg.fit` that writes losses, validation metrics and seconds to ``folder``.

    Raises:
        ConfigError: if TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("TensorBoard is not installed: pip install 'bm3-pyg[tensorboard]'") from error
    writers: list[SummaryWriter] = []  # opened at the first record: the folder of the run must be new when it begins

    def write(record: dict[str, Any]) -> None:
        with writing(folder):
            if not writers:
                writers.append(SummaryWriter(str(folder)))
            writer = writers[0]
            for group in ("loss", "val"):
                for name, value in record.get(group, {}).items():
                    writer.add_scalar(f"{group}/{name}", value, record["epoch"])
            writer.add_scalar("seconds/train", record["train_seconds"], record["epoch"])
            writer.flush()

    return write
