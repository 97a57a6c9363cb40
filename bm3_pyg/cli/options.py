"""Arguments that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bm3_pyg.cli.checks import check_run, whole
from bm3_pyg.errors import ConfigError, RunError, shown
from bm3_pyg.names import SPLIT_RULES, WHOLE

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


SOURCE_HELP = """\
PATH is a folder in MMRec's layout (NAME.inter and *_feat.npy), or a CSV, TSV, JSON lines or Parquet table of
interactions, compressed (.csv.gz) or not, or - for one on standard input (then --user-column, --item-column, --split
and --features say how to read it); NAME is planted data made on the spot: demo, planted-baby, planted-sports,
planted-electronics.
"""


def add_verb(
    group: Any, name: str, run: Callable[[argparse.Namespace], None], help: str, example: str, **options: Any
) -> Any:
    """A command with its help, an example and the function that runs it; options as of ``argparse.ArgumentParser``."""
    added = group.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **options,
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
    table.add_argument(
        "--core", type=whole(1, WHOLE), metavar="K", help="keep users and items with K interactions (default: all)"
    )
    table.add_argument(
        "--split-seed", type=whole(0, WHOLE), metavar="N", help="seed of the split or planted data (default: 0)"
    )
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
    group.add_argument(
        "--id-column", metavar="NAME", help="item ids in --items and --features (default: --item-column)"
    )
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
        help="options of the model and of training: bm3 models NAME lists them",
    )


def add_strict(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--strict", action="store_true", help="end at ids that are unknown (default: they are left out and counted)"
    )


def add_cold(command: argparse.ArgumentParser, only: str, both: str) -> None:
    """The words for items without training interactions; ``args.cold`` is ``without``, ``only`` or ``with``."""
    choice = command.add_mutually_exclusive_group()
    choice.add_argument("--cold", dest="cold", action="store_const", const="only", default="without", help=only)
    choice.add_argument("--with-cold", dest="cold", action="store_const", const="with", help=both)


def add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def source_of(args: argparse.Namespace) -> dict[str, Any]:
    """The dataset that was named, as arguments of :func:`bm3_pyg.load_dataset`."""
    options = {
        "source": args.source,
        "split": args.split_by,
        "core": args.core,
        "corrupt": args.corrupt,
        "seed": args.split_seed,
        "features": pairs(args.features, "--features"),
        "items": args.items,
    }
    return {**columns_of(args), **{name: value for name, value in options.items() if value is not None}}


def load(args: argparse.Namespace) -> HeteroData:
    from bm3_pyg.data import load_dataset

    return load_dataset(**source_of(args))


def check_use(args: argparse.Namespace) -> None:
    """What is wrong with a run that is to be used, or with where: told before anything is loaded."""
    from bm3_pyg.train.settings import check_device

    check_device(args.device)
    check_run(args.run_folder)


def data_of_run(args: argparse.Namespace) -> HeteroData:
    """A run's dataset: at --data, where it has moved, with feature and item files looked for beside a table."""
    from bm3_pyg.data import load_dataset
    from bm3_pyg.train.run_files import read_config

    source = read_config(Path(args.run_folder))["dataset"]["source"]
    if args.data is None:
        if not source:
            raise RunError(f"{args.run_folder}: trained on a dataset that was not loaded from a file, expected --data")
        return load_dataset(**source)
    moved = Path(args.data)
    if moved.is_dir() or moved.suffix == ".inter":
        return load_dataset(args.data)
    source = dict(source or {})
    if "features" in source:
        source["features"] = {name: _beside(moved, file) for name, file in source["features"].items()}
    if "items" in source:
        source["items"] = _beside(moved, source["items"])
    return load_dataset(**{**source, "source": args.data})


def model_of_run(args: argparse.Namespace, data: HeteroData) -> Any:
    """A run's trained model."""
    from bm3_pyg.train import load_run
    from bm3_pyg.train.settings import resolve_device

    return load_run(args.run_folder, data=data, device=resolve_device(args.device))[0]


def ids_in(file: str, kind: str, args: argparse.Namespace) -> Sequence[str | int]:
    """The ids of users or items in a text file, one a line, or in a table."""
    from bm3_pyg.data.ids import read_ids

    return read_ids(file, *_columns(kind, args))


def histories_in(file: str, args: argparse.Namespace) -> Mapping[str | int, Sequence[str | int]]:
    """Each user's items, from a table."""
    from bm3_pyg.data.ids import read_histories

    return read_histories(file, _columns("user", args), _columns("item", args))


def _columns(kind: str, args: argparse.Namespace) -> tuple[str, ...]:
    """What a table's column of users or items can be called: as asked, else as where it was trained on, or ``kind``."""
    from bm3_pyg.train.run_files import read_config

    if (asked := getattr(args, f"{kind}_column", None)) is not None:
        return (asked,)
    own = (read_config(Path(args.run_folder))["dataset"]["source"] or {}).get(kind)
    return (kind,) if own is None else (own, kind)


def _beside(moved: Path, file: str) -> Path:
    """``file`` where it was, or of the same name in the folder of ``moved``."""
    return Path(file) if Path(file).exists() else moved.parent / Path(file).name


def pairs(texts: Sequence[str] | None, option: str) -> dict[str, str] | None:
    if texts is None:
        return None
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value):
            raise ConfigError(f"{option}: got {shown(text)}, expected NAME=VALUE")
        if name in pairs:
            raise ConfigError(f"{option}: got {name} twice")
        pairs[name] = value
    return pairs
