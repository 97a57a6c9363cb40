"""``bm3 train``, ``evaluate`` and ``recommend``: runs, from start to use."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bm3_pyg.cli.options import MODELS, add_device, add_run, add_settings, add_source, add_verb, device, load, override
from bm3_pyg.errors import ConfigError


def add_runs(verbs: Any) -> None:
    """The commands that make, measure and use a run."""
    command = add_verb(
        verbs,
        "train",
        _train,
        "train a model and test it once, on the epoch with the best validation Recall@20",
        "bm3 train data/baby --out runs/baby --set num_layers=1 reg_weight=0.1 --seed 1",
    )
    add_source(command, optional=True)
    command.add_argument("--out", metavar="RUN", help="folder of the run (default: runs/NAME, numbered if it exists)")
    command.add_argument("--model", choices=MODELS, metavar="NAME", help=f"{', '.join(MODELS)} (default: bm3)")
    add_settings(command)
    command.add_argument("--seed", type=int, metavar="N", help="seed of weights, batches and masks (default: 0)")
    command.add_argument("--resume", action="store_true", help="go on with the run in --out")
    command.add_argument("--tensorboard", action="store_true", help="write TensorBoard events into the run")
    add_device(command)

    command = add_verb(
        verbs, "evaluate", _evaluate, "measure a run's full ranking", "bm3 evaluate runs/baby --split test --k 10,20"
    )
    add_run(command)
    command.add_argument("--split", choices=["train", "val", "test"], default="test", help="(default: test)")
    command.add_argument(
        "--mask", choices=["train", "seen"], default="train", help="hide training items, or validation items too"
    )
    command.add_argument("--k", type=_cutoffs, default=[5, 10, 20, 50], metavar="K,K", help="(default: 5,10,20,50)")
    command.add_argument("--json", action="store_true", help="print JSON, unrounded")

    command = add_verb(
        verbs,
        "recommend",
        _recommend,
        "write top-k lists with the users' own ids",
        "bm3 recommend runs/baby --users ids.txt --k 20 --out recs.parquet",
    )
    add_run(command)
    command.add_argument("--users", metavar="FILE", help="user ids, one a line (default: all users)")
    command.add_argument("--k", type=int, default=20, help="length of the lists (default: 20)")
    command.add_argument("--out", metavar="FILE", help="a .parquet, .csv or .jsonl file (default: in the run)")
    command.add_argument("--candidates", metavar="FILE", help="item ids to choose from, one a line (default: all)")
    command.add_argument("--include-seen", action="store_true", help="recommend known interactions again")


def _train(args: argparse.Namespace) -> None:
    from bm3_pyg.data import load_dataset
    from bm3_pyg.eval import evaluate
    from bm3_pyg.models import Popularity
    from bm3_pyg.report import metrics_table
    from bm3_pyg.train import TrainConfig, fit
    from bm3_pyg.train.run import check_new, read_config
    from bm3_pyg.train.settings import build_model, split_settings

    saved: dict[str, Any] = {}
    if args.resume:
        if args.out is None:
            raise ConfigError("--resume: expected --out with the run to resume")
        saved = read_config(Path(args.out))
    elif args.out is not None:
        check_new(Path(args.out))
    if args.source is None and not (saved and saved["dataset"]["source"]):
        raise ConfigError("bm3 train: expected a dataset, a PATH or NAME")
    name = args.model or saved.get("model", {}).get("name", "bm3")
    training, options = split_settings(args.settings, name)
    if args.seed is not None:
        training["seed"] = args.seed
    config = TrainConfig(**{**saved.get("train", {}), **training})
    data = load_dataset(**saved["dataset"]["source"]) if args.source is None else load(args)
    model = build_model(data, {**saved.get("model", {}).get("options", {}), **options}, config.seed, args.device, name)
    out = Path(args.out) if args.out else _fresh_folder(Path("runs") / data.name)
    callbacks = []
    if args.tensorboard:
        from bm3_pyg.train.tensorboard import tensorboard

        callbacks.append(tensorboard(out / "tensorboard"))
    result = fit(model, data, config, out, resume=args.resume, callbacks=callbacks)

    split = "test" if result.test else "val"
    if metrics := result.test or result.val:
        rows = {f"{type(model).__name__} (epoch {result.best_epoch})": metrics}
        if not isinstance(model, Popularity):
            rows["Popularity"] = evaluate(Popularity.from_data(data), data, split, mask=config.mask)
        print(metrics_table(rows))
        print(f"{split} split of {data.name}, full ranking, {config.mask} items masked, seed {config.seed}")
    print(out)


def _evaluate(args: argparse.Namespace) -> None:
    from bm3_pyg.eval import evaluate
    from bm3_pyg.report import metrics_table
    from bm3_pyg.train import load_run

    model, data = load_run(args.run_folder, data=override(args), device=device(args))
    metrics = evaluate(model, data, args.split, args.k, args.mask)
    if args.json:
        print(json.dumps({"dataset": data.name, "split": args.split, "mask": args.mask, "metrics": metrics}, indent=2))
        return
    rows = {
        f"@{k}": {name.partition("@")[0]: v for name, v in metrics.items() if name.endswith(f"@{k}")} for k in args.k
    }
    print(metrics_table(rows, list(rows[f"@{args.k[0]}"])))
    masked = "nothing masked" if args.split == "train" else f"{args.mask} items masked"
    print(f"{args.split} split of {data.name}, full ranking, {masked}")


def _recommend(args: argparse.Namespace) -> None:
    from bm3_pyg.eval.lists import read_ids, write_recommendations
    from bm3_pyg.train import load_run

    model, data = load_run(args.run_folder, data=override(args), device=device(args))
    users = None if args.users is None else read_ids(args.users)
    candidates = None if args.candidates is None else read_ids(args.candidates)
    out = Path(args.out) if args.out else Path(args.run_folder) / "recommendations" / f"top{args.k}.parquet"
    rows = write_recommendations(model, data, out, users, args.k, candidates, exclude_seen=not args.include_seen)
    print(f"{rows} recommendations", file=sys.stderr)
    print(out)


def _fresh_folder(path: Path) -> Path:
    """``path``, or with the first free number after it."""
    number, fresh = 1, path
    while fresh.exists():
        number += 1
        fresh = path.with_name(f"{path.name}-{number}")
    return fresh


def _cutoffs(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected integers such as 10,20") from None


QUIET = (_evaluate, _recommend)
"""Commands that do not repeat the dataset's notes: those were told when it was described or trained on."""
