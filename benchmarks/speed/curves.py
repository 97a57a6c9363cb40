"""What the runs of quality.py show: seconds to a target, a table, a plot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

from bm3_pyg.errors import ConfigError

BATCH, LR = 2048, 1e-3  # as published
SHARES = (0.99, 0.95)  # of the published settings' own best validation Recall@20: the targets
EVERY = (1, 2, 5)  # epochs between evaluations


def curve(run: dict[str, Any], clock: str, every: int = 1) -> Iterator[tuple[float, float]]:
    """Seconds of training and evaluation, and validation Recall@20 then, at each evaluated epoch.

    With ``every`` other evaluations than those of every so many epochs are left out: training is the same without them,
    as evaluation draws no random numbers.
    """
    seconds = 0.0
    for number, epoch in enumerate(run["epochs"], 1):
        seconds += epoch["train"][clock]
        if epoch["val"] is not None and number % every == 0:
            seconds += epoch["eval"][clock]
            yield seconds, epoch["val"]


def seconds_to(run: dict[str, Any], target: float, clock: str, every: int = 1) -> float:
    """Seconds until validation Recall@20 is ``target`` or more; infinite if it never is."""
    return next((seconds for seconds, value in curve(run, clock, every) if value >= target), math.inf)


def best_value(run: dict[str, Any]) -> float:
    return max(float(epoch["val"]) for epoch in run["epochs"] if epoch["val"] is not None)


def targets_of(runs: Iterable[dict[str, Any]]) -> list[float]:
    """Shares of the median best validation Recall@20 of ours at the published batch size and learning rate."""
    best = [
        best_value(run)
        for run in runs
        if (run["plain"], run["batch_size"], run["lr"], run["eval_every"]) == (False, BATCH, LR, 1)
    ]
    return [share * median(best) for share in SHARES] if best else [math.inf for _ in SHARES]


def title(run: dict[str, Any]) -> str:
    every = f", evaluated every {run['eval_every']}" if run["eval_every"] > 1 else ""
    return f"{run['dataset']}, {'plain' if run['plain'] else 'ours'}, {run['batch_size']:,}, lr {run['lr']:g}{every}"


def groups(runs: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs of one setting, its seeds together; plain ones first."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        found.setdefault((not run["plain"], run["batch_size"], run["lr"], run["eval_every"]), []).append(run)
    return [found[key] for key in sorted(found)]


def table(runs: list[dict[str, Any]], clock: str) -> str:
    """A Markdown table for each dataset: medians over the seeds of a setting."""
    parts = []
    for name in dict.fromkeys(run["dataset"] for run in runs):
        mine = [run for run in runs if run["dataset"] == name]
        targets = targets_of(mine)
        heads = ["", "batch", "lr", "seeds", *(f"s to {target:.4f}, every 1 / 2 / 5" for target in targets)]
        heads += ["best validation", "its epoch, of", "train + evaluate, s", "test Recall@20", "NDCG@20"]
        lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        lines += ["| " + " | ".join(_row(group, targets, clock)) + " |" for group in groups(mine)]
        parts.append(f"**{name}** ({clock} seconds, {mine[0]['threads']} thread)\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _row(group: list[dict[str, Any]], targets: list[float], clock: str) -> list[str]:
    first = group[0]
    cells = ["plain" if first["plain"] else "ours", f"{first['batch_size']:,}", f"{first['lr']:g}", str(len(group))]
    for target in targets:
        times = (median(seconds_to(run, target, clock, every) for run in group) for every in _every(first))
        cells.append(" / ".join("–" if math.isinf(seconds) else f"{seconds:.0f}" for seconds in times))
    cells.append(_spread(best_value(run) for run in group))
    cells.append(
        f"{median(run['best_epoch'] for run in group):.0f} of {median(len(run['epochs']) for run in group):.0f}"
    )
    cells.append(" + ".join(f"{median(_each(run, part, clock) for run in group):.2f}" for part in ("train", "eval")))
    return [*cells, *(_spread(run["test"][metric] for run in group) for metric in ("recall@20", "ndcg@20"))]


def _every(run: dict[str, Any]) -> tuple[int, ...]:
    return EVERY if run["eval_every"] == 1 else (run["eval_every"],)


def _each(run: dict[str, Any], part: str, clock: str) -> float:
    """Median seconds of an epoch's training, or of an evaluation."""
    return median(float(epoch[part][clock]) for epoch in run["epochs"] if part == "train" or epoch["val"] is not None)


def _spread(values: Iterable[float]) -> str:
    """The median, and the range if there is one."""
    found = sorted(values)
    spread = f" ({found[0]:.4f} to {found[-1]:.4f})" if len(found) > 1 else ""
    return f"{median(found):.4f}{spread}"


def plot(runs: list[dict[str, Any]], clock: str, picture: str) -> None:
    """Validation Recall@20 over seconds, a colour for each setting and a line for each seed."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError('--plot needs matplotlib: pip install "bm3-pyg[report]"') from error
    from bm3_pyg.study.picture import STYLE
    from bm3_pyg.study.plots import SERIES

    with rc_context(STYLE):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        for colour, group in zip(SERIES, groups(runs), strict=False):
            for place, run in enumerate(group):
                label = title(run).partition(", ")[2] if not place else None
                axes.plot(*zip(*curve(run, clock), strict=True), color=colour, linewidth=0.9, label=label)
        for target in targets_of(runs):
            if math.isfinite(target):
                axes.axhline(target, color="#888888", linewidth=0.6, linestyle=":")
        axes.set(title=runs[0]["dataset"], xlabel=f"{clock} seconds", ylabel="validation Recall@20")
        axes.legend(loc="lower right")
        figure.savefig(picture, dpi=150)
