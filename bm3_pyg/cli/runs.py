"""``bm3 train``, ``evaluate``, ``recommend`` and ``similar``: runs, from start to use."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

from bm3_pyg.cli.options import add_device, add_run, add_settings, add_source, add_verb, device, load, override
from bm3_pyg.errors import ConfigError
from bm3_pyg.names import MODELS


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
    command.add_argument(
        "--preset",
        choices=["plus"],
        help="plus: BM3 with 2 layers, masking without alignment (see README: Beyond the paper)",
    )
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
    command.add_argument("--k", type=_cutoffs, metavar="K,K", help="(default: 5,10,20,50)")
    command.add_argument("--candidates", metavar="FILE", help="rank only these item ids, one a line (default: all)")
    command.add_argument(
        "--cold", action="store_true", help="rank the split's items without training interactions, from their features"
    )
    command.add_argument(
        "--sampled",
        type=int,
        metavar="N",
        help="MRR and Hits against N sampled negatives, as OGB does; such metrics can rank models wrongly (extra ogb)",
    )
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
    command.add_argument(
        "--new-users", metavar="FILE", help="users who were not trained on: a table with columns user and item"
    )
    command.add_argument("--k", type=int, default=20, help="length of the lists (default: 20)")
    command.add_argument("--out", metavar="FILE", help="a .parquet, .csv or .jsonl file (default: in the run)")
    command.add_argument("--candidates", metavar="FILE", help="item ids to choose from, one a line (default: all)")
    command.add_argument("--include-seen", action="store_true", help="recommend known interactions again")
    command.add_argument("--cold", action="store_true", help="score items without interactions from their features")

    command = add_verb(
        verbs,
        "similar",
        _similar,
        "find the items most like given ones, by the cosine of their embeddings",
        "bm3 similar runs/baby --items ids.txt --k 10",
    )
    add_run(command)
    command.add_argument("--items", metavar="FILE", required=True, help="item ids, one a line")
    command.add_argument("--k", type=int, default=10, help="items to find for each (default: 10)")
    command.add_argument("--cold", action="store_true", help="embed items without interactions from their features")
    command.add_argument("--out", metavar="FILE", help="a .parquet, .csv or .jsonl file (default: print)")


def _train(args: argparse.Namespace) -> None:
    from bm3_pyg.data import load_dataset
    from bm3_pyg.eval import evaluate
    from bm3_pyg.eval.cold import cold_items, is_cold_split
    from bm3_pyg.models import Popularity
    from bm3_pyg.report import metrics_table
    from bm3_pyg.train import TrainConfig, fit
    from bm3_pyg.train.run import check_new
    from bm3_pyg.train.run_files import read_config
    from bm3_pyg.train.settings import build_model, split_settings, with_preset

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
    if args.preset is not None and name != "bm3":
        raise ConfigError(f"--preset: is for bm3, got --model {name}")
    settings = args.settings if args.preset is None else with_preset(args.preset, args.settings)
    training, options = split_settings(settings, name)
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
            candidates = cold_items(data, split) if is_cold_split(data) else None
            rows["Popularity"] = evaluate(
                Popularity.from_data(data), data, split, mask=config.mask, candidates=candidates
            )
        print(metrics_table(rows))
        ranking = "ranking of the split's cold items" if is_cold_split(data) else "full ranking"
        print(f"{split} split of {data.name}, {ranking}, {config.mask} items masked, seed {config.seed}")
    if not result.val:
        print("no validation interactions: nothing was selected by it")
    if not result.test:
        print("no test interactions: nothing was tested")
    print(out)


def _evaluate(args: argparse.Namespace) -> None:
    from bm3_pyg.eval import evaluate
    from bm3_pyg.eval.cold import cold_items
    from bm3_pyg.report import metrics_table

    if args.sampled is not None and args.k is not None:
        raise ConfigError("--k: got it with --sampled, whose cut-offs are OGB's: 1, 3 and 10")
    model, data = _loaded(args)
    candidates = _items(args.candidates, data)
    if args.cold and candidates is None:
        candidates = cold_items(data, args.split)
        if not len(candidates):
            raise ConfigError(f"--cold: every item in the {args.split} split of {data.name} has training interactions")
    cutoffs = args.k or [5, 10, 20, 50]
    metrics = evaluate(model, data, args.split, cutoffs, args.mask, candidates=candidates, sampled=args.sampled, seed=0)
    ranking = "full ranking" if candidates is None else f"ranking of {len(candidates):,} items"
    if args.sampled is not None:
        among = "" if candidates is None else f" among {len(candidates):,} items"
        ranking = f"{args.sampled} sampled negatives{among}, NOT a full ranking"
    if args.json:
        found = {"dataset": data.name, "split": args.split, "mask": args.mask, "ranking": ranking, "metrics": metrics}
        print(json.dumps(found, indent=2))
        return
    if args.sampled is not None:
        print(metrics_table({args.split: metrics}, list(metrics)))
    else:
        rows = {
            f"@{k}": {name.partition("@")[0]: v for name, v in metrics.items() if name.endswith(f"@{k}")}
            for k in cutoffs
        }
        print(metrics_table(rows, list(rows[f"@{cutoffs[0]}"])))
    masked = "nothing masked" if args.split == "train" or args.sampled is not None else f"{args.mask} items masked"
    print(f"{args.split} split of {data.name}, {ranking}, {masked}")


def _recommend(args: argparse.Namespace) -> None:
    from bm3_pyg.eval.lists import read_histories, read_ids, write_new_recommendations, write_recommendations

    if args.new_users is not None and (args.users is not None or args.cold or args.include_seen):
        raise ConfigError("--new-users: got it with --users, --cold or --include-seen, expected it alone")
    model, data = _loaded(args)
    candidates = None if args.candidates is None else read_ids(args.candidates)
    name = "new-users" if args.new_users else "cold" if args.cold else "top"
    out = Path(args.out) if args.out else Path(args.run_folder) / "recommendations" / f"{name}{args.k}.parquet"
    if args.new_users is not None:
        rows = write_new_recommendations(model, data, out, read_histories(args.new_users), args.k, candidates)
    else:
        users = None if args.users is None else read_ids(args.users)
        rows = write_recommendations(model, data, out, users, args.k, candidates, exclude_seen=not args.include_seen)
    print(f"{rows} recommendations", file=sys.stderr)
    print(out)


def _similar(args: argparse.Namespace) -> None:
    from tabulate import tabulate

    from bm3_pyg.eval.lists import read_ids, similar_table, write_table

    model, data = _loaded(args)
    table = similar_table(model, data, read_ids(args.items), args.k)
    if args.out is None:
        print(tabulate(table.rows(), table.columns, tablefmt="github", floatfmt=".4f"))
    else:
        write_table(table, args.out)
        print(args.out)


def _loaded(args: argparse.Namespace) -> tuple[Any, HeteroData]:
    """A run's model, with --cold for items without interactions too, and its dataset."""
    from bm3_pyg.eval import with_cold_items
    from bm3_pyg.train import load_run

    model, data = load_run(args.run_folder, data=override(args), device=device(args))
    return (with_cold_items(model, data) if args.cold else model), data


def _items(path: str | None, data: HeteroData) -> Any:
    """Indices of the items whose own ids are in a file."""
    from bm3_pyg.data import index_of
    from bm3_pyg.eval.lists import read_ids

    return None if path is None else index_of(data, "item", read_ids(path))


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


QUIET = (_evaluate, _recommend, _similar)
"""Commands that do not repeat the dataset's notes: those were told when it was described or trained on."""
