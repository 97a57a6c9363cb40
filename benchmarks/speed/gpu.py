"""Our step on a GPU: kernels beside their floors, waits for the device, precisions of products. gpu.sh calls this.

python benchmarks/speed/gpu.py --size baby --json gpu-baby.json
python benchmarks/speed/gpu.py --table FOLDER      # the figures of a folder that gpu.sh has filled
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import bm3_pyg  # noqa: F401  # isort: skip  # before torch, for the wait policy it sets
import torch
from roofline import SIZES, step  # type: ignore[import-not-found]
from run import BATCH, PARTS, PHASES, PUBLISHED, Ours, load  # type: ignore[import-not-found]
from torch import Tensor

# How the device's kernels are called, and the parts of roofline.py that they do. What no row matches is the rest.
PARTS_BY_KERNEL = {
    "catch_up_rows": "catch up",
    "update_rows": "update",
    "weighted_cosine": "cosines",
    "spmm|csrmm|csr_?mm": "propagation",
    "adam": "Adam on ids",
    "gemm|cutlass|nvjet|::mm|addmm": "three products",
}
WARM_UP = 400  # steps, by which most rows sleep as they do later
PRECISIONS = {"float32": "highest", "TF32": "high"}  # our losses and steps leave autocast's bfloat16 out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(PUBLISHED), default="demo")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=50, help="steps measured (50)")
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help=f"steps before ({WARM_UP})")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--table", metavar="FOLDER", help="only print the figures of gpu-*.json and run-*.json there")
    args = parser.parse_args()
    if args.table:
        print(table(Path(args.table)))
        return 0
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("gpu.py: found no GPU, expected one that PyTorch can use (or --device cpu)", file=sys.stderr)
        return 2
    warnings.filterwarnings("ignore", category=UserWarning, message="Sparse CSR")
    args.layers = None
    report = Steps(args).report(args.steps, args.warm_up)
    print(json.dumps(report, indent=2))
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2) + "\n")
    return 0


class Steps:
    """Our model and the batches it trains on."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.size, self.device = args.size, torch.device(args.device)
        data = load(args.size)
        torch.manual_seed(0)
        self.ours, self.edges = Ours(data, args), data["user", "rates", "item"].edge_index.to(self.device)
        self.batches = self._batches()

    def report(self, count: int, warm_up: int) -> dict[str, Any]:
        for batch in islice(self.batches, warm_up):
            self.take(batch)
        bandwidth = self.copied()
        report = {"size": self.size, "device": self._name(), "torch": torch.__version__, "copy_tb_s": bandwidth / 1e12}
        report["step"] = self.timed(count)
        report["waits"] = self.waits()
        report["parts"] = self.parts(count, bandwidth)
        report["precision"] = self.precisions(count)
        report["products_us"] = self.products(count)
        return report

    def take(self, batch: Tensor) -> Tensor:
        loss: Tensor = self.ours.loss(*batch)
        loss.backward()
        self.ours.optimizer.step()
        self.ours.optimizer.zero_grad()
        return loss.detach()

    def copied(self) -> float:
        """Bytes a second, read and written, of a copy of 1 GiB (64 MiB on a CPU)."""
        source = torch.ones((1 << 28) if self.device.type == "cuda" else (1 << 24), device=self.device)
        target = torch.empty_like(source)
        seconds = []
        for _ in range(10):
            start = self._now()
            target.copy_(source)
            seconds.append(self._now() - start)
        return 2 * 4 * source.numel() / median(seconds)

    def timed(self, count: int) -> dict[str, float]:
        """Milliseconds a step, and until the host has asked for all of one: where they agree, the host is the limit."""
        turn = list(islice(self.batches, count))
        start = self._now()
        for batch in turn:
            self.take(batch)
        asked = time.perf_counter() - start
        return {"ms": (self._now() - start) / count * 1e3, "host_ms": asked / count * 1e3}

    def waits(self) -> list[str] | None:
        """What CUDA says of waits for the device in three steps; nothing is known on a CPU."""
        if self.device.type != "cuda":
            return None
        turn = list(islice(self.batches, 3))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            for batch in turn:
                self.take(batch)
            torch.cuda.set_sync_debug_mode("default")
        told = [f"{Path(one.filename).name}:{one.lineno}" for one in caught if "synchroniz" in str(one.message)]
        return sorted(set(told))

    def parts(self, count: int, bandwidth: float) -> dict[str, dict[str, float | None]]:
        """Microseconds a step in each part's kernels, and those that its bytes take at ``bandwidth``."""
        cuda = self.device.type == "cuda"
        activity = torch.profiler.ProfilerActivity
        with torch.profiler.profile(activities=[activity.CPU, *([activity.CUDA] if cuda else [])]) as profiler:
            for batch in islice(self.batches, count):
                self.take(batch)
            self._now()
        found = dict.fromkeys([*PARTS_BY_KERNEL.values(), "the rest"], 0.0)
        for row in profiler.key_averages():
            if cuda and "CUDA" not in str(row.device_type):
                continue
            part = next((part for key, part in PARTS_BY_KERNEL.items() if re.search(key, row.key, re.I)), "the rest")
            found[part] += (row.self_device_time_total if cuda else row.self_cpu_time_total) / count
        floors = dict.fromkeys(found, 0.0)
        for work in step(SIZES[self.size]) if self.size in SIZES else ():
            part = next((part for part in floors if work.name.startswith(part)), "the rest")
            floors[part] += work.bytes / bandwidth * 1e6
        return {part: {"us": us, "floor_us": floors[part] or None} for part, us in found.items()}

    def precisions(self, count: int) -> dict[str, dict[str, float]]:
        """By precision of products: the loss and the ranking of one and the same model, then milliseconds of a step."""
        report: dict[str, dict[str, float]] = {name: {} for name in PRECISIONS}
        turn = list(islice(self.batches, count))
        for name, precision in PRECISIONS.items():
            torch.set_float32_matmul_precision(precision)
            torch.manual_seed(1)
            with torch.no_grad():
                report[name]["loss"] = float(torch.stack([self.ours.loss(*batch) for batch in turn]).mean())
            start = self._now()
            report[name]["recall@20"] = self.ours.evaluate()["recall@20"]
            report[name]["ranking_s"] = self._now() - start
        for name, precision in PRECISIONS.items():
            torch.set_float32_matmul_precision(precision)
            for batch in turn[:5]:
                self.take(batch)
            report[name]["ms"] = self.timed(count)["ms"]
        torch.set_float32_matmul_precision("highest")
        return report

    def products(self, count: int) -> dict[str, float]:
        """Microseconds of the three products of the widest table's rows, alone, by type."""
        wide = max(table.shape[1] for table in self.ours.model.features.values())
        report = {}
        for name, dtype in {**dict.fromkeys(PRECISIONS, torch.float32), "bfloat16": torch.bfloat16}.items():
            torch.set_float32_matmul_precision(PRECISIONS.get(name, "highest"))
            rows, basis = (torch.randn(n, wide, device=self.device, dtype=dtype) for n in (BATCH, 64))
            for lap in range(count + 3):
                if lap == 3:
                    start = self._now()
                out = rows @ basis.T
                out.T @ rows
                out @ basis
            report[name] = (self._now() - start) / count * 1e6
        torch.set_float32_matmul_precision("highest")
        return report

    def _batches(self) -> Iterator[Tensor]:
        while True:
            order = torch.randperm(self.edges.size(1), device=self.device)
            yield from (self.edges[:, part] for part in order.split(BATCH) if len(part) == min(BATCH, len(order)))

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


def table(folder: Path) -> str:
    """All figures in one table; a part that did not end is not there."""
    lines = ["| size | what | ours | beside | ratio |", "|---|---|---|---|---|"]
    for size in PUBLISHED:
        if (path := folder / f"run-{size}.json").is_file():
            run = json.loads(path.read_text())
            for name in ("propagation", *PHASES, *PARTS[1:]):
                if name in run:
                    unit = "mb" if name == "memory" else "ms"
                    ours, theirs = (f"{run[name][f'{side}_{unit}']:,.2f}" for side in ("ours", "reference"))
                    what = "peak memory, MiB" if unit == "mb" else f"{name}, ms"
                    lines.append(f"| {size} | {what} | {ours} | reference {theirs} | {run[name]['ratio']:.2f} |")
        if (path := folder / f"gpu-{size}.json").is_file():
            gpu = json.loads(path.read_text())
            lines.append(f"| {size} | copy, TB/s | {gpu['copy_tb_s']:.3f} | | |")
            lines.append(f"| {size} | step, ms | {gpu['step']['ms']:.3f} | host alone {gpu['step']['host_ms']:.3f} | |")
            waits = "unknown" if gpu["waits"] is None else ", ".join(gpu["waits"]) or "none"
            lines.append(f"| {size} | waits for the device in a step | {waits} | | |")
            for part, values in gpu["parts"].items():
                floor = values["floor_us"]
                beside, ratio = (f"bytes {floor:,.0f}", f"{values['us'] / floor:.2f}") if floor else ("", "")
                lines.append(f"| {size} | {part}, us | {values['us']:,.0f} | {beside} | {ratio} |")
            for name, values in gpu["precision"].items():
                trained = f"step {values['ms']:.3f} ms, loss {values['loss']:.5f}"
                ranked = f"ranking {values['ranking_s']:.2f} s, Recall@20 {values['recall@20']:.5f}"
                lines.append(f"| {size} | {name} | {trained} | {ranked} | |")
            by_type = ", ".join(f"{name} {us:,.0f}" for name, us in gpu["products_us"].items())
            lines.append(f"| {size} | three products alone, us | {by_type} | | |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
