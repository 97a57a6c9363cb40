"""BM3 trained with the published settings; a table and a report that set the results beside the published figures."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from bm3_pyg import BM3Error, TrainConfig, load_dataset
from bm3_pyg.data import modalities
from bm3_pyg.study import metrics_table
from bm3_pyg.study.content import HEADLINE, Published
from bm3_pyg.study.published import PUBLISHED, PublishedData
from bm3_pyg.train.settings import build_model, split_settings

Metrics = dict[str, float]

SETTINGS = {
    "baby": "num_layers=1 dropout=0.5 reg_weight=0.1 patience=20",
    "sports": "num_layers=1 dropout=0.5 reg_weight=0.01 patience=20",
    "electronics": "num_layers=2 dropout=0.3 reg_weight=0.1 patience=20",
    "tiktok": "num_layers=1 dropout=0.5 reg_weight=0.1 patience=60 max_epochs=400",
}


def main(name: str, arguments: Sequence[str] | None = None) -> int:
    """Train on the real data in a folder, print the table and write the report; the exit status."""
    parser = argparse.ArgumentParser(
        description=f"Train BM3 on {name} with the published settings and set the result beside the published one.",
        epilog=f"example: python benchmarks/{name}.py data/{name} --seeds 5 --out runs/benchmark-{name}",
    )
    parser.add_argument("folder", help=f"folder in MMRec's layout: {name}.inter and *_feat.npy")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0 (default: 1)")
    parser.add_argument("--set", dest="settings", nargs="+", default=[], metavar="KEY=VALUE", help="other settings")
    parser.add_argument(
        "--out", default=f"runs/benchmark-{name}", help="folder for the runs and report.html, .md, .json, .tex"
    )
    parser.add_argument("--quick", action="store_true", help="two epochs of one seed, to see that it works")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(arguments)
    try:
        run(name, args.folder, 1 if args.quick else args.seeds, args.settings, Path(args.out), args.quick, args.device)
    except BM3Error as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def run(name: str, folder: str, seeds: int, settings: Sequence[str], out: Path, quick: bool, device: str) -> None:
    """Train each seed, resuming what is there and repeating nothing finished; print a table and write the report."""
    data = load_dataset(folder)

    # Not before: a folder that is not there is told before PyTorch is loaded.
    from bm3_pyg import fit
    from bm3_pyg.study.html import write_report
    from bm3_pyg.study.report import build_report

    published = PUBLISHED[name]
    (training, options), (own_training, own_options) = map(split_settings, (SETTINGS[name].split(), settings))
    training |= own_training | ({"max_epochs": 2} if quick else {})
    folders = [out / (f"quick-{seed}" if quick else f"seed-{seed}") for seed in range(seeds)]
    results: list[Metrics] = []
    for seed, seed_folder in enumerate(folders):
        model = build_model(data, options | own_options, seed, device)
        resume = (seed_folder / "config.yaml").exists()
        results.append(fit(model, data, TrainConfig(seed=seed, **training), seed_folder, resume=resume).test)
    notes = [figures.note for figures in compared(published) if figures.note]
    if settings:
        notes.insert(0, f"Other settings than the published ones: {' '.join(settings)}.")
    if absent := [feature for feature in published.features if feature not in modalities(data)]:
        notes.insert(0, f"NOT COMPARABLE: {', '.join(absent)} features are absent from the folder; trained without.")
    if quick:
        notes.insert(0, "NOT A RESULT: --quick trains two epochs only.")
    print("\n".join([metrics_table(table_rows(published, results)), "", *notes]))
    title = f"BM3 on {name} with the published settings" + (" (--quick: NOT A RESULT)" if quick else "")
    for path in write_report(build_report(folders, title=title, data=data), out / "report.html"):
        print(path)


def compared(published: PublishedData) -> list[Published]:
    """Those of the published figures that are BM3's, with every metric of the table."""
    return [figures for figures in published.figures if set(HEADLINE) <= figures.metrics.keys()]


def table_rows(published: PublishedData, results: Sequence[Metrics]) -> dict[str, Metrics]:
    """Theirs, ours and its standard deviation, and the differences."""
    rows = {figures.source: figures.metrics for figures in compared(published)}
    ours = {metric: statistics.fmean(result[metric] for result in results) for metric in HEADLINE}
    rows[f"ours, {len(results)} seed{'s' * (len(results) > 1)}"] = ours
    spread: Metrics = {}
    if len(results) > 1:
        spread = {metric: statistics.stdev(result[metric] for result in results) for metric in HEADLINE}
        rows["  standard deviation"] = spread
    for figures in compared(published):
        source = figures.source
        rows[f"ours - {source}"] = {metric: ours[metric] - rows[source][metric] for metric in HEADLINE}
        if spread and published.spread:
            rows["  in standard errors of the difference"] = {
                metric: (ours[metric] - rows[source][metric])
                / (deviation**2 / count + spread[metric] ** 2 / len(results)) ** 0.5
                for metric, (deviation, count) in published.spread.items()
            }
    return rows
