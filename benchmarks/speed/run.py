"""How fast is bm3_pyg beside a plain BM3? Both run in turn, on the same planted data.

    python benchmarks/speed/run.py --size baby --json baby.json

prints medians and ratios of a training step and its parts, an epoch, an evaluation, and peak memory. README.md beside
this file has the method.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import bm3_pyg  # isort: skip  # before torch, for the wait policy it sets
import torch
import torch_geometric
from reference import ReferenceBM3, ReferenceEvaluation  # type: ignore[import-not-found]
from torch import Tensor
from torch_geometric.data import HeteroData

BATCH = 2048
# Layers, dropout and reg_weight of the published results; the demo takes those of baby.
PUBLISHED = {"demo": (1, 0.5, 0.1), "baby": (1, 0.5, 0.1), "sports": (1, 0.5, 0.01), "electronics": (2, 0.3, 0.1)}
PARTS = ("step", "epoch", "evaluation", "memory")
SIDES = ("reference", "ours")
PHASES = ("forward", "backward", "optimizer", "step")


def main() -> int:
    args = _parser().parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)  # PyTorch's, about sparse tensors
    if args.table:
        print(table([json.loads(Path(file).read_text()) for file in args.table]))
        return 0
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.child:
        print(json.dumps(peak_of(args.child, args)))
        return 0
    parts = PARTS if args.part == "all" else (args.part,)
    report: dict[str, Any] = {"settings": _settings(args)}
    if set(parts) - {"memory"} or args.profile:
        bench = Bench(args)
        if args.profile:
            print(profile(bench, args.steps))
            return 0
        if {"step", "epoch"} & set(parts):
            report |= bench.steps(args.steps)
            report["propagation"] = bench.propagation(args.steps)
        if "epoch" in parts:
            report["epoch"] = bench.epoch(args.budget, report["step"])
        if "evaluation" in parts:
            report["evaluation"] = bench.evaluation(args.budget)
        del bench
    if "memory" in parts:
        report["memory"] = memory(args)
    _print(report)
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2) + "\n")
    return 0


class Bench:
    """Both models on the same data, with the same weights to begin with."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        self.data = load(args.size)
        self.edges = self.data["user", "rates", "item"].edge_index.to(self.device)
        torch.manual_seed(0)
        self.reference = Reference(self.data, args, share=False)
        self.ours = Ours(self.data, args)
        _copy_weights(self.reference.model, self.ours.model)
        self.sides: dict[str, Any] = {"reference": self.reference, "ours": self.ours}

    def batches(self) -> Iterator[Tensor]:
        """Batches [2, B] of one epoch, again and again."""
        while True:
            order = torch.randperm(self.edges.size(1), device=self.device)
            yield from (self.edges[:, part] for part in order.split(BATCH))

    def steps(self, count: int) -> dict[str, Any]:
        """Medians of a step and its phases, the two sides taking turns of TURN steps on the same batches."""
        times: dict[str, dict[str, list[float]]] = {phase: {side: [] for side in SIDES} for phase in PHASES}
        batches = self.batches()
        for name, side in self.sides.items():
            for _ in range(WARM_UP[name]):
                self._step(side, next(batches))
        for _ in range(-(-count // TURN)):
            turn = [next(batches) for _ in range(TURN)]
            for name, side in self.sides.items():
                for batch in turn:
                    for phase, seconds in zip(PHASES, self._step(side, batch), strict=True):
                        times[phase][name].append(seconds)
        return {phase: _compare(*(median(times[phase][side]) for side in SIDES)) for phase in PHASES}

    def _step(self, side: Any, batch: Tensor) -> tuple[float, ...]:
        users, items = batch
        marks = [self._now()]
        loss = side.loss(users, items)
        marks.append(self._now())
        loss.backward()
        marks.append(self._now())
        side.optimizer.step()
        side.optimizer.zero_grad()
        marks.append(self._now())
        return *(after - before for before, after in pairwise(marks)), marks[-1] - marks[0]

    def propagation(self, count: int) -> dict[str, Any]:
        """Medians of the propagation alone, forward and backward, as a training step does it."""
        users, items = self.edges[:, :BATCH].unique(dim=1)
        users, items = users.unique(), items.unique()
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(-(-count // TURN)):
            for name, side in self.sides.items():
                for _ in range(TURN):
                    start = self._now()
                    side.propagation(users, items).backward()
                    times[name].append(self._now() - start)
                    side.optimizer.zero_grad()
        return _compare(*(median(times[side]) for side in SIDES))

    def epoch(self, budget: float, step: dict[str, float]) -> dict[str, Any]:
        """One epoch each; where that takes longer than ``budget`` seconds, the median step times their number."""
        count = -(-self.edges.size(1) // BATCH)
        seconds, how = {}, {}
        for name, side in self.sides.items():
            expected = step[f"{name}_ms"] / 1e3 * count
            how[name] = "measured" if expected <= budget else f"extrapolated: {count} median steps"
            if expected > budget:
                seconds[name] = expected
                continue
            start, batches = self._now(), self.batches()
            for _ in range(count):
                users, items = next(batches)
                side.loss(users, items).backward()
                side.optimizer.step()
                side.optimizer.zero_grad()
            seconds[name] = self._now() - start
        return {**_compare(*(seconds[side] for side in SIDES)), "steps": count, **_notes(how)}

    def evaluation(self, budget: float) -> dict[str, Any]:
        """The ranking of the test positives; medians of three. The reference may be cut to its first blocks."""
        task = ReferenceEvaluation(self.data)
        start = self._now()
        task.run(self.reference.model, task.blocks[:1])
        block = self._now() - start
        count = len(task.blocks) if block * len(task.blocks) * 3 <= budget else max(1, min(4, len(task.blocks)))
        blocks = task.blocks[:count]
        share = sum(block.numel() for block in blocks) / task.num_users
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(3):
            start = self._now()
            expected = task.run(self.reference.model, blocks)
            times["reference"].append((self._now() - start) / share)
            start = self._now()
            found = self.ours.evaluate()
            times["ours"].append(self._now() - start)
        how = "measured" if share == 1 else f"extrapolated: {count} of {len(task.blocks)} blocks of users"
        notes = _notes({"reference": how, "ours": "measured"})
        recall = {"reference_recall@20": expected["recall@20"], "ours_recall@20": found["recall@20"]}
        return {**_compare(*(median(times[side]) for side in SIDES)), "users": task.num_users, **recall, **notes}

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Reference:
    def __init__(self, data: HeteroData, args: argparse.Namespace, share: bool) -> None:
        if not share:  # it trains the features in place
            data = data.clone("image", "text")
        num_layers, dropout, reg_weight = _published(args)
        self.model = ReferenceBM3(data, num_layers, dropout, reg_weight).to(args.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.loss = self.model.loss

    def propagation(self, users: Tensor, items: Tensor) -> Tensor:
        hidden_users, hidden_items = self.model()
        norms = torch.norm(hidden_users) + torch.norm(hidden_items)
        total: Tensor = hidden_users[users].sum() + hidden_items[items].sum() + norms
        return total


class Ours:
    def __init__(self, data: HeteroData, args: argparse.Namespace, frozen: bool = False) -> None:
        num_layers, dropout, reg_weight = _published(args)
        options = {"num_layers": num_layers, "dropout": dropout, "reg_weight": reg_weight, "freeze_features": frozen}
        self.data, self._evaluate = data, bm3_pyg.evaluate
        self.model = bm3_pyg.BM3.from_data(data, **options).to(args.device)
        self.optimizer = bm3_pyg.build_optimizer(self.model)

    def loss(self, users: Tensor, items: Tensor) -> Tensor:
        total: Tensor = self.model.loss(users, items).total
        return total

    def propagation(self, users: Tensor, items: Tensor) -> Tensor:
        from bm3_pyg.ops import propagate_rows

        model = self.model
        tables = model.user_embedding, model.item_embedding
        outputs = propagate_rows(model.graph, *tables, model.num_layers, users, items, residual=True)
        return torch.stack([output.sum() for output in outputs]).sum()

    def evaluate(self) -> dict[str, float]:
        return self._evaluate(self.model, self.data, split="test")


TURN = 5  # steps before the other side's turn, so that each finds its own data in the cache as it does in training
# Rows that sleep through Adam's first hundred steps cost more to catch up; training soon leaves those behind.
WARM_UP = {"reference": 3, "ours": 100}


def memory(args: argparse.Namespace) -> dict[str, float]:
    """Peak MiB of a few training steps, each side in a process of its own, above an idle one (or on the GPU)."""
    peaks = {}
    for side in ("idle", *SIDES, "frozen", "evaluation"):
        command = [sys.executable, __file__, "--child", side, "--size", args.size, "--device", args.device]
        command += ["--layers", str(args.layers)] if args.layers is not None else []
        command += ["--threads", str(args.threads)] if args.threads else []
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise SystemExit(f"{side}: the measuring process failed\n{result.stderr}")
        peaks[side] = float(json.loads(result.stdout.splitlines()[-1]))
    reference, ours, frozen = (peaks[side] - peaks["idle"] for side in (*SIDES, "frozen"))
    return {
        "reference_mb": reference,
        "ours_mb": ours,
        "ratio": ours / reference,
        "frozen_mb": frozen,
        "frozen_ratio": frozen / reference,
        "evaluation_mb": peaks["evaluation"],
        "idle_mb": peaks["idle"],
    }


def peak_of(side: str, args: argparse.Namespace) -> float:
    """Peak MiB of this process while it builds ``side`` and trains; the data are loaded before, and stay."""
    if side == "idle":
        return 0.0 if args.device.startswith("cuda") else _peak_mb()
    data = load(args.size)
    users, items = data["user", "rates", "item"].edge_index[:, : 5 * BATCH].to(args.device)
    _reset_peak()
    if side == "evaluation":
        return _peak_of_evaluation(Ours(data, args, frozen=True))
    trained = Reference(data, args, share=True) if side == "reference" else Ours(data, args, side == "frozen")
    for low in range(0, users.numel(), BATCH):
        trained.loss(users[low : low + BATCH], items[low : low + BATCH]).backward()
        trained.optimizer.step()
        trained.optimizer.zero_grad()
    return torch.cuda.max_memory_allocated() / 2**20 if args.device.startswith("cuda") else _peak_mb()


def _peak_of_evaluation(ours: Ours) -> float:
    """Peak MiB of ranking the test split, above the model and the data (or on the GPU, them included)."""
    _reset_peak()
    before = _peak_mb()
    ours.evaluate()
    return torch.cuda.max_memory_allocated() / 2**20 if ours.model.user_embedding.is_cuda else _peak_mb() - before


def profile(bench: Bench, steps: int) -> str:
    """Where does the step go? A table of our step's phases and operators."""
    from torch.profiler import ProfilerActivity, record_function

    batches, side = bench.batches(), bench.ours
    for _ in range(3):
        bench._step(side, next(batches))
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if bench.device.type == "cuda" else [])
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(steps):
            users, items = next(batches)
            with record_function("= forward"):
                loss = side.loss(users, items)
            with record_function("= backward"):
                loss.backward()
            with record_function("= optimizer"):
                side.optimizer.step()
                side.optimizer.zero_grad()
    rows = sorted(profiler.key_averages(), key=lambda row: -row.cpu_time_total)
    phases = [row for row in rows if row.key.startswith("= ")]
    total = sum(row.cpu_time_total for row in phases)
    lines = [f"{'ms a step':>10} {'share':>6}  phase, then operators by their own time"]
    for row in phases:
        lines.append(f"{row.cpu_time_total / 1e3 / steps:10.2f} {row.cpu_time_total / total:6.1%}  {row.key[2:]}")
    rows = sorted((row for row in rows if row not in phases), key=lambda row: -row.self_cpu_time_total)
    for row in rows[:20]:
        own = row.self_cpu_time_total
        lines.append(f"{own / 1e3 / steps:10.2f} {own / total:6.1%}    {row.key} ({row.count // steps} a step)")
    return "\n".join(lines)


def table(reports: list[dict[str, Any]]) -> str:
    """Reports as a Markdown table: a column for each size, a row for each part: reference, ours and their ratio."""
    titles = [f"{report['settings']['size']}, {report['settings']['layers']}-layer" for report in reports]
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    rows = {name: (name, "ms", name) for name in ("propagation", *PHASES, "epoch", "evaluation")}
    rows |= {"memory": ("memory", "mb", "memory, MiB"), "frozen": ("memory", "mb", "with frozen features, MiB")}
    for row, (part, suffix, title) in rows.items():
        cells = [_cell(report[part], suffix, row == "frozen") if part in report else "" for report in reports]
        lines.append("| " + " | ".join([title if suffix == "mb" else f"{title}, ms", *cells]) + " |")
    peaks = [f"{report['memory']['evaluation_mb']:,.0f}" if "memory" in report else "" for report in reports]
    lines.append("| evaluation's memory above the model, MiB | " + " | ".join(peaks) + " |")
    return "\n".join(lines) + "\n\n\\* extrapolated from median steps or from the first blocks of users"


def _cell(values: dict[str, Any], suffix: str, frozen: bool) -> str:
    mark = "*" if values.get("reference_is", "measured") != "measured" else ""
    ours, ratio = (
        (values["frozen_mb"], values["frozen_ratio"]) if frozen else (values[f"ours_{suffix}"], values["ratio"])
    )
    figures = (f"{value:,.1f}" if value < 100 else f"{value:,.0f}" for value in (values[f"reference_{suffix}"], ours))
    return f"{next(figures)}{mark} / {next(figures)} = **{ratio:.2f}**"


def load(size: str) -> HeteroData:
    return bm3_pyg.load_dataset(size if size == "demo" else f"planted-{size}")


def _copy_weights(reference: Any, ours: Any) -> None:
    with torch.no_grad():
        ours.user_embedding.copy_(reference.user_embedding.weight)
        ours.item_embedding.copy_(reference.item_embedding.weight)
        ours.objective.predictor.load_state_dict(reference.predictor.state_dict())
        for name in reference.projections:
            ours.projections[name].load_state_dict(reference.projections[name].state_dict())


def _published(args: argparse.Namespace) -> tuple[int, float, float]:
    num_layers, dropout, reg_weight = PUBLISHED[args.size]
    return num_layers if args.layers is None else args.layers, dropout, reg_weight


def _compare(reference: float, ours: float) -> dict[str, Any]:
    return {"reference_ms": reference * 1e3, "ours_ms": ours * 1e3, "ratio": reference / ours}


def _notes(how: dict[str, str]) -> dict[str, str]:
    return {f"{side}_is": text for side, text in how.items()}


def _reset_peak() -> None:
    """Forget the peak so far, which is that of loading; Linux lets a process do so."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("peak memory includes the loading of the data", file=sys.stderr)


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    num_layers, dropout, reg_weight = _published(args)
    device = torch.cuda.get_device_name() if args.device.startswith("cuda") else "cpu"
    return {
        "size": args.size,
        "layers": num_layers,
        "dropout": dropout,
        "reg_weight": reg_weight,
        "batch": BATCH,
        "steps": args.steps,
        "device": device,
        "threads": torch.get_num_threads(),
        "kernels": os.environ.get("BM3_KERNELS", "auto"),
        "torch": torch.__version__,
        "torch_geometric": torch_geometric.__version__,
    }


def _print(report: dict[str, Any]) -> None:
    print(", ".join(f"{key} {value}" for key, value in report["settings"].items()))
    print(f"{'':>12} {'reference':>12} {'ours':>12} {'ratio':>7}")
    for name, values in report.items():
        if name == "settings":
            continue
        unit, suffix = ("MiB", "mb") if name == "memory" else ("ms", "ms")
        figures = " ".join(f"{values[f'{side}_{suffix}']:8.1f} {unit:>3}" for side in SIDES)
        notes = [f"{side} {how}" for side in SIDES if (how := values.get(f"{side}_is", "measured")) != "measured"]
        if "frozen_mb" in values:
            notes.append(f"frozen features {values['frozen_mb']:.1f} MiB, {values['frozen_ratio']:.2f}")
            notes.append(f"evaluation {values['evaluation_mb']:.1f} MiB above the model")
        print(f"{name:>12} {figures} {values['ratio']:7.2f}  {'; '.join(notes)}".rstrip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(PUBLISHED), default="demo", help="planted data of this size (demo)")
    parser.add_argument("--layers", type=int, help="propagation layers (as published for the size)")
    parser.add_argument("--part", choices=["all", *PARTS], default="all")
    parser.add_argument("--steps", type=int, default=20, help="steps measured on either side (20)")
    parser.add_argument(
        "--budget", type=float, default=180, help="seconds; what would take longer is extrapolated (180)"
    )
    parser.add_argument("--threads", type=int, help="threads (PyTorch's choice)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--profile", action="store_true", help="only show where our step's time goes")
    parser.add_argument("--table", nargs="+", metavar="FILE", help="only print the figures of such files as Markdown")
    parser.add_argument("--child", choices=["idle", *SIDES, "frozen", "evaluation"], help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
