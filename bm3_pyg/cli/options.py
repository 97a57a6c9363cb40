"""Arguments that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

from bm3_pyg.errors import ConfigError
from bm3_pyg.names import SPLIT_RULES

SOURCE_HELP = """\
PATH is a folder in MMRec's layout (NAME.inter and *_feat.npy), or a CSV, TSV, JSON lines or Parquet table of
interactions, compressed (.csv.gz) or not, or - for one on standard input (then --user-column, --item-column, --split
and --features say how to read it); NAME is planted data made on the spot: demo, planted-baby, planted-sports,
planted-electronics.
"""


def add_verb(group: Any, name: str, run: Callable[[argparse.Namespace], None], help: str, example: str) -> Any:
    """A command with its help, an example and the function that runs it."""
    added = group.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.set_defaults(run=run)
    return added


def add_source(command: argparse.ArgumentParser, optional: bool = False, flag: str | None = None) -> None:
    if flag:
        command.add_argument(flag, dest="source", metavar="PATH|NAME", required=True, help="the dataset (see below)")
    else:
        command.add_argument("source", metavar="PATH|NAME", nargs="?" if optional else None, help="see below")
    command.epilog = f"{SOURCE_HELP}\n{command.epilog}"
    command.add_argument(
        "--corrupt", choices=["shuffled", "random"], help="shuffle the features between items or draw them, to compare"
    )
    table = command.add_argument_group("your own table")
    add_columns(table)
    table.add_argument(
        "--split",
        dest="split_by",
        choices=SPLIT_RULES,
        help="how to hold out (default: label with --label-column, else random)",
    )
    table.add_argument("--core", type=int, metavar="K", help="keep users and items with K interactions (default: all)")
    table.add_argument("--split-seed", type=int, metavar="N", help="seed of the split or planted data (default: 0)")
    table.add_argument(
        "--features", nargs="+", action="extend", metavar="NAME=FILE", help=".npy in item order, or table by item id"
    )
    table.add_argument("--items", metavar="FILE", help="every item id, in the order of .npy features")


def add_columns(group: Any) -> None:
    """Which columns of a table are what."""
    group.add_argument("--user-column", metavar="NAME", help="(default: user)")
    group.add_argument("--item-column", metavar="NAME", help="(default: item)")
    group.add_argument("--time-column", metavar="NAME")
    group.add_argument("--rating-column", metavar="NAME")
    group.add_argument("--label-column", metavar="NAME", help="column with train, val, test or 0, 1, 2")
    group.add_argument("--id-column", metavar="NAME", help="item ids in --items and --features (default: as above)")
    group.add_argument("--columns", metavar="NAME,NAME", help="names of all columns, for text without a header")


def columns_of(args: argparse.Namespace) -> dict[str, Any]:
    """The columns that were named, as keyword arguments of :func:`bm3_pyg.load_dataset`."""
    named = {name: getattr(args, f"{name}_column") for name in ("user", "item", "time", "rating", "label")}
    named["id_column"], named["columns"] = args.id_column, args.columns and args.columns.split(",")
    return {name: column for name, column in named.items() if column is not None}


def add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run_folder", metavar="RUN", help="folder of a run")
    command.add_argument("--data", metavar="PATH", help="the dataset, if it has moved since")
    add_device(command)


def add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        dest="settings",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="options of the model (its class's keyword arguments: num_layers, embedding_dim, reg_weight, modalities, "
        "...) and of training (max_epochs, min_epochs, patience, batch_size, lr, eval_every, mask, ...)",
    )


def add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def load(args: argparse.Namespace) -> HeteroData:
    from bm3_pyg.data import load_dataset

    options = {
        "split": args.split_by,
        "core": args.core,
        "corrupt": args.corrupt,
        "seed": args.split_seed,
        "features": pairs(args.features, "--features"),
        "items": args.items,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return load_dataset(args.source, **columns_of(args), **given)


def override(args: argparse.Namespace) -> HeteroData | None:
    """The dataset at --data, where a run's own has moved; feature and item files are looked for beside a table."""
    from bm3_pyg.data import load_dataset
    from bm3_pyg.train.run_files import read_config

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


def device(args: argparse.Namespace) -> Any:
    from bm3_pyg.train.settings import resolve_device

    return resolve_device(args.device)


def pairs(texts: Sequence[str] | None, option: str) -> dict[str, str] | None:
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
