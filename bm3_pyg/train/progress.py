"""Training as it goes: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 5.0


class Progress:
    """Shows epochs, losses and validation on standard error."""

    def __init__(self, max_epochs: int, verbose: bool) -> None:
        self.max_epochs = max_epochs
        self.lines = verbose and not sys.stderr.isatty()
        self.bar = tqdm(
            total=max_epochs, unit="epoch", disable=not verbose or self.lines, dynamic_ncols=True, leave=True
        )
        self.printed_at = time.monotonic()
        self.line = ""

    def resume(self, history: list[dict[str, Any]]) -> None:
        """Start from the epochs already done."""
        self.bar.update(len(history))
        if self.lines and history:
            print(f"resumed after epoch {history[-1]['epoch']}", file=sys.stderr)

    def step(self, step: int, steps: int) -> None:
        self.bar.set_description(f"step {step}/{steps}", refresh=False)
        self.bar.update(0)
        if self.lines and time.monotonic() - self.printed_at > 6 * LINE_SECONDS:
            self._print(f"  step {step} of {steps}")

    def epoch(self, record: dict[str, Any], best_epoch: int, best: dict[str, float]) -> None:
        summary = f"loss {record['loss']['total']:.4f}"
        if "val" in record:
            summary += f"  val recall@20 {record['val']['recall@20']:.4f}"
        if best:
            summary += f"  best {best['recall@20']:.4f} (epoch {best_epoch})"
        self.bar.set_postfix_str(summary, refresh=False)
        self.bar.update(1)
        self.line = f"epoch {record['epoch']:>4}/{self.max_epochs}  {summary}  {record['train_seconds']:.2f} s"
        if self.lines and time.monotonic() - self.printed_at >= LINE_SECONDS:
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
