"""The published settings and figures, and the table that sets ours beside them."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bm3_pyg import BM3Error, TrainConfig, fit, load_dataset
from bm3_pyg.data import modalities
from bm3_pyg.files import write_text
from bm3_pyg.report import metrics_table
from bm3_pyg.report.table import HEADLINE
from bm3_pyg.train.settings import build_model, split_settings

Metrics = dict[str, float]


@dataclass(frozen=True)
class Benchmark:
    """A dataset, the settings it is trained with, and what others report under HEADLINE's names."""

    name: str
    options: Mapping[str, Any]
    training: Mapping[str, Any]
    reported: Mapping[str, tuple[float, float, float, float]]
    features: tuple[str, ...]
    note: str
    reported_spread: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """Standard deviation of the first source's metrics, and over how many seeds."""


AMAZON_FEATURES = ("image", "text")
SWAPPED = (
    "Article: its table heads these columns N@10 N@20 R@10 R@20; the headings are swapped there, and the figures stand "
    "here under their right names."
)
PAPER, ARTICLE = "published (paper)", "article's reproduction"

BENCHMARKS = {
    "baby": Benchmark(
        "baby",
        {"num_layers": 1, "dropout": 0.5, "reg_weight": 0.1},
        {"patience": 20},
        {PAPER: (0.0564, 0.0883, 0.0301, 0.0383), ARTICLE: (0.0559, 0.0880, 0.0296, 0.0383)},
        AMAZON_FEATURES,
        SWAPPED,
    ),
    "sports": Benchmark(
        "sports",
        {"num_layers": 1, "dropout": 0.5, "reg_weight": 0.01},
        {"patience": 20},
        {PAPER: (0.0656, 0.0980, 0.0355, 0.0438), ARTICLE: (0.0646, 0.0978, 0.0345, 0.0435)},
        AMAZON_FEATURES,
        SWAPPED,
    ),
    "electronics": Benchmark(
        "electronics",
        {"num_layers": 2, "dropout": 0.3, "reg_weight": 0.1},
        {"patience": 20},
        {PAPER: (0.0437, 0.0648, 0.0247, 0.0302), ARTICLE: (0.0434, 0.0643, 0.0247, 0.0301)},
        AMAZON_FEATURES,
        SWAPPED,
    ),
    "tiktok": Benchmark(
        "tiktok",
        {"num_layers": 1, "dropout": 0.5, "reg_weight": 0.1},
        {"patience": 60, "max_epochs": 400},
        {"authors' code, 3 seeds": (0.0569, 0.0883, 0.0288, 0.0367)},
        ("image", "audio"),
        "Authors' code: the same files (image as image, audio as text) and settings.",
        {"recall@20": (0.0026, 3), "ndcg@20": (0.0010, 3)},
    ),
}


def main(name: str, arguments: Sequence[str] | None = None) -> int:
    """Train on the real data in a folder and print and save the table."""
    benchmark = BENCHMARKS[name]
    parser = argparse.ArgumentParser(
        description=f"Train BM3 on {name} with the published settings and set the result beside the published one.",
        epilog=f"example: python benchmarks/{name}.py data/{name} --seeds 5 --out runs/benchmark-{name}",
    )
    parser.add_argument("folder", help=f"folder in MMRec's layout: {name}.inter and *_feat.npy")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0 (default: 1)")
    parser.add_argument("--set", dest="settings", nargs="+", default=[], metavar="KEY=VALUE", help="other settings")
    parser.add_argument("--out", default=f"runs/benchmark-{name}", help="folder for the runs and table.md, table.json")
    parser.add_argument("--quick", action="store_true", help="two epochs of one seed, to see that it works")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(arguments)
    try:
        run(
            benchmark,
            args.folder,
            1 if args.quick else args.seeds,
            args.settings,
            Path(args.out),
            args.quick,
            args.device,
        )
    except BM3Error as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def run(
    benchmark: Benchmark, folder: str, seeds: int, settings: Sequence[str], out: Path, quick: bool, device: str
) -> None:
    """Train each seed, resuming what is there and repeating nothing finished, and write the table to ``out``."""
    data = load_dataset(folder)
    training, options = split_settings(settings)
    training = {**benchmark.training, **training, **({"max_epochs": 2} if quick else {})}
    options = {**benchmark.options, **options}
    results: list[Metrics] = []
    for seed in range(seeds):
        model = build_model(data, options, seed, device)
        seed_folder = out / (f"quick-{seed}" if quick else f"seed-{seed}")
        resume = (seed_folder / "config.yaml").exists()
        results.append(fit(model, data, TrainConfig(seed=seed, **training), seed_folder, resume=resume).test)
    rows = table_rows(benchmark, results)
    notes = [benchmark.note]
    if settings:
        notes.insert(0, f"Other settings than the published ones: {' '.join(settings)}.")
    if absent := [name for name in benchmark.features if name not in modalities(data)]:
        notes.insert(0, f"NOT COMPARABLE: {', '.join(absent)} features are absent from the folder; trained without.")
    if quick:
        notes.insert(0, "NOT A RESULT: --quick trains two epochs only.")
    text = "\n".join([metrics_table(rows), "", *notes])
    print(text)
    write_text(out / "table.md", text + "\n")
    saved = {"dataset": data.name, "options": options, "training": training, "rows": rows, "seeds": results}
    write_text(out / "table.json", json.dumps({**saved, "notes": notes}, indent=2) + "\n")
    print(out / "table.md")


def table_rows(benchmark: Benchmark, results: Sequence[Metrics]) -> dict[str, Metrics]:
    """Theirs, ours and its standard deviation, and the differences."""
    rows = {source: dict(zip(HEADLINE, figures, strict=True)) for source, figures in benchmark.reported.items()}
    ours = {metric: statistics.fmean(result[metric] for result in results) for metric in HEADLINE}
    rows[f"ours, {len(results)} seed{'s' * (len(results) > 1)}"] = ours
    spread: Metrics = {}
    if len(results) > 1:
        spread = {metric: statistics.stdev(result[metric] for result in results) for metric in HEADLINE}
        rows["  standard deviation"] = spread
    for source in benchmark.reported:
        rows[f"ours - {source}"] = {metric: ours[metric] - rows[source][metric] for metric in HEADLINE}
        if spread and benchmark.reported_spread:
            rows["  in standard errors of the difference"] = {
                metric: (ours[metric] - rows[source][metric])
                / (deviation**2 / count + spread[metric] ** 2 / len(results)) ** 0.5
                for metric, (deviation, count) in benchmark.reported_spread.items()
            }
    return rows
