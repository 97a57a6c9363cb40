"""``bm3 sweep`` and ``bm3 report``: many runs, and what they say."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from bm3_pyg.cli.checks import MOST_JOBS, MOST_SEEDS, check_file, whole
from bm3_pyg.cli.models import MODELS_HELP
from bm3_pyg.cli.options import add_device, add_source, add_verb, load
from bm3_pyg.cli.terminal import line
from bm3_pyg.files import check_parent, check_place
from bm3_pyg.names import MODEL_NAMES, WHOLE


def add_study(verbs: Any) -> None:
    """The commands over many runs."""
    command = add_verb(
        verbs,
        "sweep",
        _sweep,
        "search models, settings and seeds on one dataset, selecting on validation only",
        "bm3 sweep data/baby --out runs/sweep --models bm3 lightgcn --seeds 3 --jobs 2\n"
        "      --grid bm3.dropout=0.3,0.5 lightgcn.reg_weight=1e-3,1e-4 num_layers=1,2\n"
        "  bm3 sweep data/tiktok --out runs/ablation --preset ablation --seeds 5",
    )
    add_source(command)
    command.add_argument("--out", metavar="DIR", required=True, help="folder of the runs; taken up if it exists")
    command.add_argument("--models", nargs="+", choices=MODEL_NAMES, default=["bm3"], metavar="NAME", help=MODELS_HELP)
    command.add_argument(
        "--grid", nargs="+", action="extend", default=[], metavar="KEY=V,V", help="or MODEL.KEY=V,V for one model"
    )
    command.add_argument(
        "--preset",
        choices=["published", "ablation"],
        help="published: BM3's grid (layers 1, 2; dropout .3, .5; reg_weight .1, .01); ablation: BM3 without each "
        "modality, without any, features shuffled, random or frozen, alignment or masking off",
    )
    command.add_argument("--random", type=whole(1, WHOLE), metavar="N", help="try N settings of each grid, at random")
    command.add_argument("--seeds", type=whole(1, MOST_SEEDS), default=3, metavar="N", help="0 to N-1 (default: 3)")
    command.add_argument(
        "--set", dest="settings", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="for every run"
    )
    command.add_argument("--jobs", type=whole(1, MOST_JOBS), default=1, metavar="N", help="runs at a time (default: 1)")
    command.add_argument(
        "--protocol",
        choices=["strict", "mmrec"],
        default="strict",
        help="strict selects on validation; mmrec shows the common practice, selection on test of rounded values",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    add_device(command)

    command = add_verb(
        verbs,
        "report",
        _report,
        "set runs side by side: one page with results, significance, strata, ablations and how to repeat them",
        "bm3 report runs/sweep runs/ablation --out report.html",
    )
    command.add_argument("runs", nargs="+", metavar="RUNS", help="runs, sweeps, or folders of them")
    command.add_argument("--out", metavar="FILE", required=True, help="a .html file; .md, .json and .tex go beside it")
    command.add_argument("--title", help="(default: the models and the datasets)")
    command.add_argument("--data", metavar="PATH", help="the dataset, if it has moved since")


def _sweep(args: argparse.Namespace) -> None:
    from bm3_pyg.study.search import Sweep, settings_for
    from bm3_pyg.train.settings import check_device

    check_device(args.device)
    check_place(args.out)
    asked = (args.models, args.grid, args.preset, args.random)
    sweep = Sweep({}, settings_for(*asked), tuple(range(args.seeds)), tuple(args.settings), args.device)
    sweep.check()
    data = load(args)

    from bm3_pyg.data import modalities
    from bm3_pyg.study.selection import results, sweep_table
    from bm3_pyg.study.sweep import run_sweep

    settings = settings_for(*asked, modalities=list(modalities(data)))
    sweep = replace(sweep, source=data.source, settings=settings, arguments=_arguments(args))
    outcomes = run_sweep(sweep, Path(args.out), args.jobs, args.protocol)
    if args.json:
        print(json.dumps(results(outcomes, args.protocol), indent=2))
    else:
        print(sweep_table(outcomes, args.protocol), Path(args.out), sep="\n")


def _arguments(args: argparse.Namespace) -> dict[str, list[str]]:
    """What was asked for, as the command line takes it again."""
    asked = {
        "--preset": args.preset,
        "--models": None if args.preset else args.models,
        "--grid": args.grid,
        "--random": args.random,
        "--seeds": args.seeds,
        "--set": args.settings,
    }
    return {
        option: value if isinstance(value, list) else [str(value)]
        for option, value in asked.items()
        if value not in (None, [])
    }


def _report(args: argparse.Namespace) -> None:
    from bm3_pyg.data import load_dataset
    from bm3_pyg.study.runs import gather

    check_file(args.out, (".html",))
    check_parent(args.out)
    gathered = gather(args.runs)
    data = None if args.data is None else load_dataset(args.data)

    from bm3_pyg.study.html import write_report
    from bm3_pyg.study.report import build_report

    report = build_report(gathered, title=args.title, data=data)
    for warning in (*report.warnings, *(warning for section in report.sections for warning in section.warnings)):
        print(f"bm3: {line(warning)}", file=sys.stderr)
    for path in write_report(report, Path(args.out)):
        print(path)
