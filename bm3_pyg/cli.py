"""The ``bm3`` command. Every verb is a call anyone can make from Python."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

from bm3_pyg.errors import BM3Error, ConfigError

SOURCE_HELP = """\
PATH is a folder in MMRec's layout (NAME.inter and *_feat.npy), or a CSV, TSV or Parquet table of interactions
(then --user-column, --item-column, --split and --features say how to read it); NAME is planted data made on the
spot: demo, planted-baby, planted-sports, planted-electronics.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it worked, 2 for bad input (one line on standard error), 130 if interrupted."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    args = _parser().parse_args(arguments)
    # What a dataset is like was said when it was described or trained on.
    told = args.run in (_evaluate, _recommend)
    logging.getLogger("bm3_pyg").setLevel(logging.ERROR if told else logging.WARNING)
    try:
        args.run(args)
    except BM3Error as error:
        print(f"bm3: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"bm3: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"bm3: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 130
    return 0


def _describe(args: argparse.Namespace) -> None:
    from bm3_pyg.data import describe

    card = describe(_load(args))
    if args.json:
        print(json.dumps(card, indent=2))
        return
    from bm3_pyg.report import description

    print(description(card))


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
    training, options = split_settings(args.settings)
    if args.seed is not None:
        training["seed"] = args.seed
    config = TrainConfig(**{**saved.get("train", {}), **training})
    data = load_dataset(**saved["dataset"]["source"]) if args.source is None else _load(args)
    model = build_model(data, {**saved.get("model", {}).get("options", {}), **options}, config.seed, args.device)
    out = Path(args.out) if args.out else _fresh_folder(Path("runs") / data.name)
    callbacks = []
    if args.tensorboard:
        from bm3_pyg.train.tensorboard import tensorboard

        callbacks.append(tensorboard(out / "tensorboard"))
    result = fit(model, data, config, out, resume=args.resume, callbacks=callbacks)

    split = "test" if result.test else "val"
    if metrics := result.test or result.val:
        popularity = evaluate(Popularity.from_data(data), data, split, mask=config.mask)
        print(metrics_table({f"BM3 (epoch {result.best_epoch})": metrics, "Popularity": popularity}))
        print(f"{split} split of {data.name}, full ranking, {config.mask} items masked, seed {config.seed}")
    print(out)


def _evaluate(args: argparse.Namespace) -> None:
    from bm3_pyg.eval import evaluate
    from bm3_pyg.report import metrics_table
    from bm3_pyg.train import load_run

    model, data = load_run(args.run_folder, data=_override(args), device=_device(args))
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

    model, data = load_run(args.run_folder, data=_override(args), device=_device(args))
    users = None if args.users is None else read_ids(args.users)
    candidates = None if args.candidates is None else read_ids(args.candidates)
    out = Path(args.out) if args.out else Path(args.run_folder) / "recommendations" / f"top{args.k}.parquet"
    rows = write_recommendations(model, data, out, users, args.k, candidates, exclude_seen=not args.include_seen)
    print(f"{rows} recommendations", file=sys.stderr)
    print(out)


def _import_checkpoint(args: argparse.Namespace) -> None:
    from bm3_pyg.report import metrics_table
    from bm3_pyg.train import TrainConfig
    from bm3_pyg.train.official import import_checkpoint
    from bm3_pyg.train.settings import split_settings

    training, options = split_settings(args.settings)
    data = _load(args)
    names = _pairs(args.names, "--names")
    import_checkpoint(args.checkpoint, data, Path(args.out), TrainConfig(**training), options, names)
    metrics = json.loads((Path(args.out) / "metrics.json").read_text(encoding="utf-8"))
    print(metrics_table({split: metrics[split] for split in ("val", "test")}))
    print(args.out)


def _export(args: argparse.Namespace) -> None:
    from bm3_pyg.data import export_dataset
    from bm3_pyg.train import load_run
    from bm3_pyg.train.export import export_embeddings

    if args.source is not None and (Path(args.source) / "config.yaml").is_file():
        if args.format == "mmrec":
            raise ConfigError(f"{args.source}: a run is exported as npy or parquet, mmrec is for datasets")
        args.run_folder = args.source
        export_embeddings(*load_run(args.source, data=_override(args)), Path(args.out), args.format)
    else:
        export_dataset(_load(args), Path(args.out), args.format)
    print(args.out)


def _load(args: argparse.Namespace) -> HeteroData:
    from bm3_pyg.data import load_dataset

    options = {
        "user": args.user_column,
        "item": args.item_column,
        "time": args.time_column,
        "rating": args.rating_column,
        "label": args.label_column,
        "split": args.split_by,
        "seed": args.split_seed,
        "features": _pairs(args.features, "--features"),
        "items": args.items,
    }
    return load_dataset(args.source, **{name: value for name, value in options.items() if value is not None})


def _override(args: argparse.Namespace) -> HeteroData | None:
    """The dataset at --data, where a run's own has moved; feature and item files are looked for beside a table."""
    from bm3_pyg.data import load_dataset
    from bm3_pyg.train.run import read_config

    if args.data is None:
        return None
    moved = Path(args.data)
    if moved.is_dir() or moved.suffix == ".inter":
        return load_dataset(args.data)
    source = dict(read_config(Path(args.run_folder))["dataset"]["source"] or {})
    if "features" in source:
        source["features"] = {name: _beside(moved, file) for name, file in source["features"].items()}
    if "items" in source:
        source["items"] = _beside(moved, source["items"])
    return load_dataset(**{**source, "source": args.data})


def _beside(moved: Path, file: str) -> Path:
    """``file`` where it was, or of the same name in the folder of ``moved``."""
    return Path(file) if Path(file).exists() else moved.parent / Path(file).name


def _device(args: argparse.Namespace) -> Any:
    from bm3_pyg.train.settings import resolve_device

    return resolve_device(args.device)


def _fresh_folder(path: Path) -> Path:
    """``path``, or with the first free number after it."""
    number, fresh = 1, path
    while fresh.exists():
        number += 1
        fresh = path.with_name(f"{path.name}-{number}")
    return fresh


def _pairs(texts: Sequence[str] | None, option: str) -> dict[str, str] | None:
    if texts is None:
        return None
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value):
            raise ConfigError(f"{option}: got {text!r}, expected NAME=VALUE")
        if name in pairs:
            raise ConfigError(f"{option}: got {name} twice")
        pairs[name] = value
    return pairs


def _cutoffs(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected integers such as 10,20") from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    from importlib.metadata import version

    parser = _Parser(prog="bm3", description="BM3 multimodal recommendation: train, evaluate, recommend.")
    parser.add_argument("--version", action="version", version=f"bm3 {version('bm3-pyg')}")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)

    def verb(group: Any, name: str, run: Callable[[argparse.Namespace], None], help: str, example: str) -> Any:
        added = group.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        return added

    data = verbs.add_parser("data", help="look at datasets").add_subparsers(metavar="COMMAND", required=True)

    command = verb(data, "describe", _describe, "what is in a dataset", "bm3 data describe data/baby --json")
    _source(command)
    command.add_argument("--json", action="store_true", help="print JSON")

    command = verb(
        verbs,
        "train",
        _train,
        "train BM3 and test it once, on the epoch with the best validation Recall@20",
        "bm3 train data/baby --out runs/baby --set num_layers=1 reg_weight=0.1 --seed 1",
    )
    _source(command, optional=True)
    command.add_argument("--out", metavar="RUN", help="folder of the run (default: runs/NAME, numbered if it exists)")
    command.add_argument("--model", choices=["bm3"], default="bm3", help="the model (default: bm3)")
    _settings(command)
    command.add_argument("--seed", type=int, metavar="N", help="seed of weights, batches and masks (default: 0)")
    command.add_argument("--resume", action="store_true", help="go on with the run in --out")
    command.add_argument("--tensorboard", action="store_true", help="write TensorBoard events into the run")
    _device_option(command)

    command = verb(
        verbs, "evaluate", _evaluate, "measure a run's full ranking", "bm3 evaluate runs/baby --split test --k 10,20"
    )
    _run(command)
    command.add_argument("--split", choices=["train", "val", "test"], default="test", help="(default: test)")
    command.add_argument(
        "--mask", choices=["train", "seen"], default="train", help="hide training items, or validation items too"
    )
    command.add_argument("--k", type=_cutoffs, default=[5, 10, 20, 50], metavar="K,K", help="(default: 5,10,20,50)")
    command.add_argument("--json", action="store_true", help="print JSON, unrounded")

    command = verb(
        verbs,
        "recommend",
        _recommend,
        "write top-k lists with the users' own ids",
        "bm3 recommend runs/baby --users ids.txt --k 20 --out recs.parquet",
    )
    _run(command)
    command.add_argument("--users", metavar="FILE", help="user ids, one a line (default: all users)")
    command.add_argument("--k", type=int, default=20, help="length of the lists (default: 20)")
    command.add_argument("--out", metavar="FILE", help="a .parquet, .csv or .jsonl file (default: in the run)")
    command.add_argument("--candidates", metavar="FILE", help="item ids to choose from, one a line (default: all)")
    command.add_argument("--include-seen", action="store_true", help="recommend known interactions again")

    command = verb(
        verbs,
        "import-checkpoint",
        _import_checkpoint,
        "make a run of weights trained with the authors' code or MMRec",
        "bm3 import-checkpoint BM3-best.pth --data data/baby --out runs/baby-official",
    )
    command.add_argument("checkpoint", help="the .pth file")
    _source(command, flag="--data")
    command.add_argument("--out", metavar="RUN", required=True, help="folder of the run")
    command.add_argument(
        "--names", nargs="+", action="extend", metavar="THEIRS=OURS", help="modality names, e.g. text=audio"
    )
    _settings(command)

    command = verb(
        verbs,
        "export",
        _export,
        "write a dataset, or the embeddings of a run, for other tools",
        "bm3 export runs/baby --format npy --out embeddings",
    )
    _source(command)
    command.add_argument("--format", choices=["mmrec", "npy", "parquet"], required=True)
    command.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    command.add_argument("--data", metavar="PATH", help="the dataset of a run, if it has moved since")
    return parser


def _source(command: argparse.ArgumentParser, optional: bool = False, flag: str | None = None) -> None:
    if flag:
        command.add_argument(flag, dest="source", metavar="PATH|NAME", required=True, help="the dataset (see below)")
    else:
        command.add_argument("source", metavar="PATH|NAME", nargs="?" if optional else None, help="see below")
    command.epilog = f"{SOURCE_HELP}\n{command.epilog}"
    table = command.add_argument_group("your own table")
    table.add_argument("--user-column", metavar="NAME", help="(default: user)")
    table.add_argument("--item-column", metavar="NAME", help="(default: item)")
    table.add_argument("--time-column", metavar="NAME")
    table.add_argument("--rating-column", metavar="NAME")
    table.add_argument("--label-column", metavar="NAME", help="column with train, val, test or 0, 1, 2")
    table.add_argument(
        "--split",
        dest="split_by",
        choices=["random", "leave-one-out", "time", "label"],
        help="how to hold out (default: label with --label-column, else random)",
    )
    table.add_argument("--split-seed", type=int, metavar="N", help="seed of the split or planted data (default: 0)")
    table.add_argument(
        "--features", nargs="+", action="extend", metavar="NAME=FILE", help=".npy in item order, or table by item id"
    )
    table.add_argument("--items", metavar="FILE", help="every item id, in the order of .npy features")


def _run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run_folder", metavar="RUN", help="folder of a run")
    command.add_argument("--data", metavar="PATH", help="the dataset, if it has moved since")
    _device_option(command)


def _settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        dest="settings",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="options of the model (num_layers, dropout, reg_weight, align_weight, embedding_dim, freeze_features, "
        "modalities) and of training (max_epochs, min_epochs, patience, batch_size, lr, eval_every, mask, ...)",
    )


def _device_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


if __name__ == "__main__":
    sys.exit(main())
