"""``bm3 train``, ``evaluate``, ``recommend`` and ``similar``: runs, from start to use."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bm3_pyg.cli.checks import check_file, cutoffs, list_length, whole
from bm3_pyg.cli.models import MODELS_HELP, settings_help
from bm3_pyg.cli.options import (
    add_cold,
    add_device,
    add_run,
    add_settings,
    add_source,
    add_strict,
    add_verb,
    check_use,
    data_of_run,
    histories_in,
    ids_in,
    model_of_run,
    source_of,
)
from bm3_pyg.cli.terminal import line
from bm3_pyg.errors import ConfigError
from bm3_pyg.names import CHOICES, LIST_SUFFIXES, MODEL_NAMES, SPLITS
from bm3_pyg.timeline import part, process_start, recorded

if TYPE_CHECKING:
    from torch import Tensor
    from torch_geometric.data import HeteroData

    from bm3_pyg.train.request import TrainedRun


def add_runs(verbs: Any) -> None:
    """The commands that make, measure and use a run."""
    command = add_verb(
        verbs,
        "train",
        _train,
        "train a model and test it once, on the epoch with the best validation Recall@20",
        "bm3 train data/baby --out runs/baby --set num_layers=1 reg_weight=0.1 --seed 1",
        add_help=False,
    )
    command.add_argument("-h", "--help", action="store_true", help="show this, with what --set takes for --model")
    command.set_defaults(parser=command)
    add_source(command, optional=True)
    command.add_argument("--out", metavar="RUN", help="folder of the run (default: runs/NAME, numbered if it exists)")
    command.add_argument("--model", choices=MODEL_NAMES, metavar="NAME", help=f"{MODELS_HELP} (default: bm3)")
    add_settings(command)
    command.add_argument(
        "--preset",
        choices=["plus"],
        help="plus: BM3 with 2 layers, masking without alignment (see README: Beyond the paper)",
    )
    command.add_argument(
        "--seed", type=whole(0, 2**32 - 1), metavar="N", help="seed of weights, batches and masks (default: 0)"
    )
    command.add_argument("--resume", action="store_true", help="go on with the run in --out")
    command.add_argument("--tensorboard", action="store_true", help="write TensorBoard events into the run")
    command.add_argument(
        "--profile",
        action="store_true",
        help="print at the end where the time went: seconds of reading, training, ranking, writing and the rest",
    )
    add_device(command)

    command = add_verb(
        verbs, "evaluate", _evaluate, "measure a run's full ranking", "bm3 evaluate runs/baby --split test --k 10,20"
    )
    add_run(command)
    command.add_argument("--split", choices=SPLITS, default="test", help="(default: test)")
    command.add_argument(
        "--mask", choices=CHOICES["mask"], default="train", help="hide training items, or validation items too"
    )
    command.add_argument("--k", type=cutoffs, metavar="K,K", help="(default: 5,10,20,50)")
    command.add_argument("--candidates", metavar="FILE", help="rank only these item ids, one a line (default: all)")
    add_strict(command)
    add_cold(
        command,
        "rank only those items of the split that have no training interactions, by their features",
        "rank all items, those without training interactions by their features",
    )
    command.add_argument(
        "--sampled",
        type=whole(1, 1_000_000),
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
        "--new-users", metavar="FILE", help="users who were not trained on: a table of users and their items"
    )
    for kind in ("user", "item"):
        own = f"column of {kind}s in tables (default: as in the one trained on, else {kind})"
        command.add_argument(f"--{kind}-column", metavar="NAME", help=own)
    command.add_argument("--k", type=list_length, default=20, help="length of the lists (default: 20)")
    command.add_argument("--out", metavar="FILE", help="a .parquet, .csv or .jsonl file (default: in the run)")
    command.add_argument("--candidates", metavar="FILE", help="item ids to choose from, one a line (default: all)")
    command.add_argument("--include-seen", action="store_true", help="recommend known interactions again")
    add_strict(command)
    add_cold(
        command,
        "offer only items without training interactions, by their features",
        "offer items without training interactions too, by their features (default: they are left out)",
    )

    command = add_verb(
        verbs,
        "similar",
        _similar,
        "find the items most like given ones, by the cosine of their embeddings",
        "bm3 similar runs/baby --items ids.txt --k 10",
    )
    add_run(command)
    command.add_argument("--items", metavar="FILE", required=True, help="item ids, one a line")
    command.add_argument("--k", type=list_length, default=10, help="items to find for each (default: 10)")
    add_strict(command)
    add_cold(
        command,
        "find only items without training interactions, by their features",
        "find items without training interactions too, by their features (default: they are left out)",
    )
    command.add_argument("--out", metavar="FILE", help="a .parquet, .csv or .jsonl file (default: print)")


def _train(args: argparse.Namespace) -> None:
    if args.help:
        args.parser.print_help()
        print(f"\n{settings_help(args.model or 'bm3')}")
        return
    from bm3_pyg.train.request import RunRequest, train_run

    request = RunRequest(
        source=None if args.source is None else source_of(args),
        out=args.out,
        model=args.model,
        settings=args.settings,
        preset=args.preset,
        seed=args.seed,
        resume=args.resume,
        device=args.device,
        tensorboard=args.tensorboard,
        command=args.command_line,
    )
    with recorded(process_start()) as timeline:
        _print_result(train_run(request))
    if args.profile:
        print(timeline.table(), file=sys.stderr)


def _print_result(run: TrainedRun) -> None:
    """Its test beside that of the most popular items, or its validation where there is no test."""
    from bm3_pyg.eval.cold import is_cold_split
    from bm3_pyg.eval.held_out import HeldOut
    from bm3_pyg.models import Popularity
    from bm3_pyg.study import metrics_table

    result, split = run.result, "test" if run.result.test else "val"
    if metrics := result.test or result.val:
        rows = {f"{type(run.model).__name__} (epoch {result.best_epoch})": metrics}
        if not isinstance(run.model, Popularity):
            with part("rank"):
                popularity = HeldOut(Popularity.from_data(run.data), run.data, run.config.mask, [split])
                rows["Popularity"] = popularity.rank(split)
        print(metrics_table(rows))
        ranking = "ranking of the split's cold items" if is_cold_split(run.data) else "full ranking"
        print(f"{split} split of {run.data.name}, {ranking}, {run.config.mask} items masked, seed {run.config.seed}")
    if not result.val:
        print("no validation interactions: nothing was selected by it")
    if not result.test:
        print("no test interactions: nothing was tested")
    print(run.out)


def _evaluate(args: argparse.Namespace) -> None:
    if args.sampled is not None and args.k is not None:
        raise ConfigError("--k: got it with --sampled, whose cut-offs are OGB's: 1, 3 and 10")
    check_use(args)
    ids = None if args.candidates is None else ids_in(args.candidates, "item", args)
    data = data_of_run(args)

    from bm3_pyg.eval import evaluate
    from bm3_pyg.serving.cold_start import cold_start_model
    from bm3_pyg.study import metrics_table

    model = cold_start_model(model_of_run(args, data), data, args.cold)
    candidates = _candidates(args, data, ids)
    k = args.k or [5, 10, 20, 50]
    metrics = evaluate(model, data, args.split, k, args.mask, candidates=candidates, sampled=args.sampled, seed=0)
    ranking = _ranking(args.sampled, candidates)
    if args.json:
        about = {"dataset": data.name, "split": args.split, "mask": args.mask, "ranking": ranking}
        print(json.dumps({**about, "metrics": metrics}, indent=2))
        return
    rows = {args.split: metrics} if args.sampled is not None else _by_cutoff(metrics, k)
    print(metrics_table(rows, list(next(iter(rows.values())))))
    masked = "nothing masked" if args.split == "train" or args.sampled is not None else f"{args.mask} items masked"
    print(f"{args.split} split of {line(data.name)}, {ranking}, {masked}")


def _candidates(args: argparse.Namespace, data: HeteroData, ids: Sequence[str | int] | None) -> Tensor | None:
    """The items to rank: those of --candidates, of the split's cold ones with --cold; None for all."""
    import torch

    from bm3_pyg.data import index_of
    from bm3_pyg.eval.cold import cold_items
    from bm3_pyg.serving.lists import drop_unknown_ids

    named = None if ids is None else index_of(data, "item", drop_unknown_ids(data, "item", ids, args.strict))
    if args.cold != "only":
        return named
    cold = cold_items(data, args.split)
    candidates = cold if named is None else named[torch.isin(named, cold)]
    if not len(candidates):
        among = "every item" if named is None else f"every item of {args.candidates}"
        raise ConfigError(f"--cold: {among} in the {args.split} split of {data.name} has training interactions")
    return candidates


def _ranking(sampled: int | None, candidates: Tensor | None) -> str:
    """What was ranked, in words."""
    if sampled is not None:
        among = "" if candidates is None else f" among {len(candidates):,} items"
        return f"{sampled} sampled negatives{among}, NOT a full ranking"
    return "full ranking" if candidates is None else f"ranking of {len(candidates):,} items"


def _by_cutoff(metrics: Mapping[str, float], k: Sequence[int]) -> dict[str, dict[str, float]]:
    """``{"@5": {"recall": ..., ...}, ...}``, a row of a table for each cut-off."""
    return {
        f"@{cutoff}": {name.partition("@")[0]: value for name, value in metrics.items() if name.endswith(f"@{cutoff}")}
        for cutoff in k
    }


def _recommend(args: argparse.Namespace) -> None:
    if args.new_users is not None and (args.users is not None or args.cold != "without" or args.include_seen):
        raise ConfigError("--new-users: got it with --users, --cold, --with-cold or --include-seen, expected it alone")
    kinds = {"without": "top", "only": "cold", "with": "with-cold"}
    name = "new-users" if args.new_users else kinds[args.cold]
    out = Path(args.out) if args.out else Path(args.run_folder) / "recommendations" / f"{name}{args.k}.parquet"
    check_use(args)
    check_file(out, LIST_SUFFIXES)
    candidates = None if args.candidates is None else ids_in(args.candidates, "item", args)
    users = None if args.users is None else ids_in(args.users, "user", args)
    histories = None if args.new_users is None else histories_in(args.new_users, args)
    data = data_of_run(args)

    from bm3_pyg.serving import lists

    model = model_of_run(args, data)
    if candidates is not None:
        candidates = lists.drop_unknown_ids(data, "item", candidates, args.strict)
    if histories is not None:
        histories = lists.drop_unknown_items(data, histories, args.strict)
        table = lists.new_user_table(model, data, histories, args.k, candidates)
    else:
        users = None if users is None else lists.drop_unknown_ids(data, "user", users, args.strict)
        table = lists.recommendation_table(model, data, users, args.k, candidates, not args.include_seen, args.cold)
    lists.write_table(table, out)
    print(f"{len(table)} recommendations", file=sys.stderr)
    print(out)


def _similar(args: argparse.Namespace) -> None:
    check_use(args)
    if args.out is not None:
        check_file(args.out, LIST_SUFFIXES)
    ids = ids_in(args.items, "item", args)
    data = data_of_run(args)

    from tabulate import tabulate

    from bm3_pyg.serving import lists

    items = lists.drop_unknown_ids(data, "item", ids, args.strict)
    table = lists.similar_table(model_of_run(args, data), data, items, args.k, args.cold)
    if args.out is None:
        rows = [[line(cell) if isinstance(cell, str) else cell for cell in row] for row in table.rows()]
        print(tabulate(rows, table.columns, tablefmt="github", floatfmt=".4f"))
    else:
        lists.write_table(table, args.out)
        print(args.out)


QUIET = (_evaluate, _recommend, _similar)
"""Commands that do not repeat the dataset's notes: those were told when it was described or trained on."""
