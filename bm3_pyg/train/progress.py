"""Training as it goes: a progress bar on a terminal, lines elsewhere, TensorBoard events (extra ``tensorboard``)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bm3_pyg.errors import ConfigError
from bm3_pyg.files import writing
from bm3_pyg.names import SELECTION

LINE_SECONDS = 5.0


class Progress:
    """Shows epochs, losses and validation on standard error."""

    def __init__(self, max_epochs: int, verbose: bool) -> None:
        self.max_epochs = max_epochs
        self.lines = verbose and not sys.stderr.isatty()
        self.bar = tqdm(
            total=max_epochs, unit="epoch", disable=not verbose or self.lines, dynamic_ncols=True, leave=True
        )
        self.began = time.monotonic()
        self.printed_at: float | None = None
        self.line = ""

    def resume(self, history: list[dict[str, Any]]) -> None:
        """Start from the epochs already done."""
        self.bar.update(len(history))
        if self.lines and history:
            print(f"resumed after epoch {history[-1]['epoch']}", file=sys.stderr)

    def step(self, step: int, steps: int) -> None:
        self.bar.set_description(f"step {step}/{steps}", refresh=False)
        self.bar.update(0)
        if self.lines and time.monotonic() - (self.printed_at or self.began) > 6 * LINE_SECONDS:
            self._print(f"  step {step} of {steps}")

    def epoch(self, record: dict[str, Any], best_epoch: int, best: dict[str, float]) -> None:
        summary = f"loss {record['loss']['total']:.4f}"
        if "val" in record:
            summary += f"  val {SELECTION} {record['val'][SELECTION]:.4f}"
        if best:
            summary += f"  best {best[SELECTION]:.4f} (epoch {best_epoch})"
        self.bar.set_postfix_str(summary, refresh=False)
        self.bar.update(1)
        self.line = f"epoch {record['epoch']:>4}/{self.max_epochs}  {summary}  {record['train_seconds']:.2f} s"
        if self.lines and (self.printed_at is None or time.monotonic() - self.printed_at >= LINE_SECONDS):
            self._print(self.line)

    def close(self) -> None:
        """Leave the last epoch in sight."""
        self.bar.close()
        if self.lines and self.line:
            self._print(self.line)

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        self.printed_at = time.monotonic()
        self.line = ""


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
