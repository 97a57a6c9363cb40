"""How soon does training reach a given validation Recall@20, on real data, with which batch size and learning rate?

    python benchmarks/speed/quality.py --out quality.jsonl                    # the whole study, many hours
    python benchmarks/speed/quality.py tiktok --batch-size 2048 8192 --out quality.jsonl
    python benchmarks/speed/quality.py tiktok --plain --out quality.jsonl     # the plain BM3, published settings
    python benchmarks/speed/quality.py --table quality.jsonl                  # what is in the file, as Markdown
    python benchmarks/speed/quality.py tiktok --table quality.jsonl --plot tiktok.svg

A run is appended to the file when it ends, and one that is there is not repeated: the same command goes on where it was
stopped. README.md beside this file has the method.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import bm3_pyg  # isort: skip  # before torch, for the wait policy it sets
import torch
from curves import BATCH, LR, best_value, plot, seconds_to, table, targets_of, title  # type: ignore[import-not-found]
from reference import ReferenceBM3, ReferenceEvaluation  # type: ignore[import-not-found]
from torch_geometric.data import HeteroData

from bm3_pyg.errors import BM3Error, ConfigError, shown
from bm3_pyg.train.settings import build_model

SHARED = Path(os.environ.get("BM3_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
# Layers, dropout and reg_weight as published (TikTok's are the best of the published grid), patience, most epochs.
PUBLISHED = {
    "ml100k": (1, 0.5, 0.1, 20, 400),
    "tiktok": (2, 0.3, 0.1, 60, 400),
    "baby": (1, 0.5, 0.1, 20, 400),
    "sports": (1, 0.5, 0.01, 20, 400),
}
SCALES: dict[str, Callable[[float], float]] = {"one": lambda _: 1.0, "sqrt": math.sqrt, "linear": lambda ratio: ratio}


@dataclass(frozen=True)
class Setting:
    """One run; ``patience`` is in epochs, whatever lies between two evaluations."""

    dataset: str
    plain: bool
    batch_size: int
    lr: float
    eval_every: int
    patience: int
    max_epochs: int
    seed: int
    threads: int


def main() -> int:
    args = _parser().parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)  # PyTorch's, about sparse tensors
    args.datasets = args.datasets or list(PUBLISHED)
    try:
        if unknown := set(args.datasets) - set(PUBLISHED):
            raise ConfigError(f"got {shown(min(unknown))}, expected a dataset of {', '.join(PUBLISHED)}")
        if args.table:
            show(args)
        else:
            train(args)
    except BM3Error as error:
        print(f"quality.py: {error}", file=sys.stderr)
        return 2
    return 0


def show(args: argparse.Namespace) -> None:
    """Print the table, and draw the plot if it is asked for."""
    if missing := [file for file in args.table if not file.exists()]:
        raise ConfigError(f"--table: no file {missing[0]}")
    runs = [run for file in args.table for run in read(file) if run["dataset"] in args.datasets]
    print(table(runs, args.clock))
    if args.plot and len(args.datasets) != 1:
        raise ConfigError("--plot: expected one DATASET")
    if args.plot:
        plot(runs, args.clock, args.plot)


def train(args: argparse.Namespace) -> None:
    """The runs that are asked for and not in the file yet."""
    for name in args.datasets:
        if not (SHARED / name).is_dir():
            raise ConfigError(f"no {name} in {SHARED}, expected the real datasets there (set BM3_SHARED_DATA)")
    torch.set_num_threads(args.threads)
    for name in args.datasets:
        data = bm3_pyg.load_dataset(str(SHARED / name))
        begin = replace(published(name, args.threads), plain=args.plain, eval_every=args.eval_every)
        if args.max_epochs:
            begin = replace(begin, max_epochs=args.max_epochs)
        if args.plain:
            for seed in range(args.seeds):
                run(replace(begin, seed=seed), data, args.out)
            continue
        compiling = bm3_pyg.TrainConfig(max_epochs=1)
        bm3_pyg.fit(build_model(data, options(name), 0), data.clone(), compiling, verbose=False)
        study(grid(begin, args.batch_size, args.scale), data, args)


def study(rates: list[list[Setting]], data: HeteroData, args: argparse.Namespace) -> None:
    """Each batch size's learning rates with the first seed, then the soonest at the target with the other seeds."""
    first = [[run(setting, data, args.out) for setting in settings] for settings in rates]
    target, *_ = targets_of(run for run in read(args.out) if run["dataset"] == rates[0][0].dataset)
    for settings, runs in zip(rates, first, strict=True):
        ranks = [(seconds_to(run, target, args.clock), -best_value(run)) for run in runs]
        chosen = settings[ranks.index(min(ranks))]
        for seed in range(1, args.seeds):
            run(replace(chosen, seed=seed), data, args.out)


def published(name: str, threads: int) -> Setting:
    *_, patience, max_epochs = PUBLISHED[name]
    return Setting(name, False, BATCH, LR, 1, patience, max_epochs, 0, threads)


def options(name: str) -> dict[str, Any]:
    return dict(zip(("num_layers", "dropout", "reg_weight"), PUBLISHED[name], strict=False))


def grid(begin: Setting, batch_sizes: Iterable[int], scales: Iterable[str]) -> list[list[Setting]]:
    """For every batch size its learning rates. Patience grows with the square root of the batch size."""
    found = []
    for batch_size in batch_sizes:
        ratio = batch_size / BATCH
        rates = sorted({float(f"{LR * SCALES[scale](ratio):.3g}") for scale in scales})
        longer = replace(begin, batch_size=batch_size, patience=round(begin.patience * max(1, ratio) ** 0.5))
        found.append([replace(longer, lr=lr) for lr in rates])
    return found


def run(setting: Setting, data: HeteroData, out: Path) -> dict[str, Any]:
    """The run of that setting, from the file if it is there."""
    done = next((run for run in read(out) if all(run[key] == value for key, value in asdict(setting).items())), None)
    if done:
        return done
    result = {**asdict(setting), **(train_plain if setting.plain else train_ours)(setting, data.clone())}
    with out.open("a") as file:
        file.write(json.dumps(result) + "\n")
    value, test = best_value(result), result["test"]
    print(
        f"{title(result)}, seed {setting.seed}: validation Recall@20 {value:.4f} in epoch {result['best_epoch']} of "
        f"{len(result['epochs'])}, test {test['recall@20']:.4f} / {test['ndcg@20']:.4f}",
        flush=True,
    )
    return result


def read(path: Path) -> list[dict[str, Any]]:
    """The runs in a file."""
    runs = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        try:
            runs.append(json.loads(line))
        except ValueError:
            raise ConfigError(f"{path}: line {number}: found no JSON, expected a run; take the line out") from None
    return runs


class Clock:
    """Wall and CPU seconds since the last look."""

    def __init__(self) -> None:
        self._last = time.perf_counter(), time.process_time()

    def lap(self) -> tuple[float, float]:
        before, self._last = self._last, (time.perf_counter(), time.process_time())
        return self._last[0] - before[0], self._last[1] - before[1]


def train_ours(setting: Setting, data: HeteroData) -> dict[str, Any]:
    """By :func:`bm3_pyg.fit`; an evaluation's time includes keeping the weights of a better epoch."""
    model = build_model(data, options(setting.dataset), setting.seed)
    epochs: list[dict[str, Any]] = []
    training: list[tuple[float, float]] = []
    scorer = model.scorer

    def ranked() -> Any:
        training.append(clock.lap())
        return scorer()

    def ended(record: dict[str, Any]) -> None:
        lap = clock.lap()
        epochs.append(_epoch(training.pop(), lap, record["val"]) if training else _epoch(lap, (0.0, 0.0), None))

    model.scorer = ranked
    config = bm3_pyg.TrainConfig(
        max_epochs=setting.max_epochs,
        patience=max(1, round(setting.patience / setting.eval_every)),
        batch_size=setting.batch_size,
        lr=setting.lr,
        eval_every=setting.eval_every,
        seed=setting.seed,
    )
    clock = Clock()
    result = bm3_pyg.fit(model, data, config, callbacks=[ended], verbose=False)
    return {"best_epoch": result.best_epoch, "test": _selected(result.test), "epochs": epochs}


def train_plain(setting: Setting, data: HeteroData) -> dict[str, Any]:
    """The reference in a plain loop: Adam, an evaluation each epoch, the same early stopping."""
    torch.manual_seed(setting.seed)
    model = ReferenceBM3(data, **options(setting.dataset))
    optimizer = torch.optim.Adam(model.parameters(), lr=setting.lr)
    edges = data["user", "rates", "item"].edge_index
    validation = ReferenceEvaluation(data, "val")
    epochs: list[dict[str, Any]] = []
    best_epoch, best, weights = 0, -1.0, {}
    clock = Clock()
    while len(epochs) < setting.max_epochs and len(epochs) - best_epoch < setting.patience:
        for batch in torch.randperm(edges.size(1)).split(setting.batch_size):
            optimizer.zero_grad()
            model.loss(*edges[:, batch]).backward()
            optimizer.step()
        training = clock.lap()
        metrics = validation.run(model)
        if metrics["recall@20"] > best or not epochs:
            best_epoch, best = len(epochs) + 1, metrics["recall@20"]
            weights = {name: value.clone() for name, value in model.state_dict().items()}
        epochs.append(_epoch(training, clock.lap(), metrics))
    model.load_state_dict(weights)
    return {
        "best_epoch": best_epoch,
        "test": _selected(ReferenceEvaluation(data, "test").run(model)),
        "epochs": epochs,
    }


def _epoch(training: tuple[float, float], evaluation: tuple[float, float], val: dict[str, float] | None) -> Any:
    value = None if val is None else val["recall@20"]
    return {
        "train": {"wall": training[0], "cpu": training[1]},
        "eval": {"wall": evaluation[0], "cpu": evaluation[1]},
        "val": value,
    }


def _selected(metrics: dict[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in ("recall@20", "ndcg@20")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", metavar="DATASET", help=f"of {', '.join(PUBLISHED)} (all)")
    sizes = [BATCH * 2**power for power in range(5)]
    parser.add_argument("--batch-size", type=int, nargs="+", default=sizes, metavar="N", help="(2,048 to 32,768)")
    parser.add_argument(
        "--scale",
        nargs="+",
        choices=list(SCALES),
        default=list(SCALES),
        help=f"learning rates tried: {LR:g} times one, the root of batch size / {BATCH:,}, or that itself (all)",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds of the best learning rate (3)")
    parser.add_argument("--plain", action="store_true", help="only the plain BM3, at the published settings")
    parser.add_argument("--eval-every", type=int, default=1, metavar="N", help="epochs between evaluations (1)")
    parser.add_argument("--max-epochs", type=int, metavar="N", help="(400)")
    parser.add_argument("--threads", type=int, default=1, help="(1: then CPU seconds are fair on a busy machine)")
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu", help="seconds that count (cpu)")
    parser.add_argument("--out", type=Path, default="quality.jsonl", metavar="FILE", help="of runs (quality.jsonl)")
    parser.add_argument("--table", type=Path, nargs="+", metavar="FILE", help="only print such runs as Markdown")
    parser.add_argument("--plot", metavar="PICTURE", help="with --table and one dataset: draw its curves there too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
