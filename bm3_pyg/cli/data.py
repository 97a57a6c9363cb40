"""``bm3 data``: prepare and look at datasets."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from bm3_pyg.cli.checks import check_file, whole
from bm3_pyg.cli.options import add_columns, add_source, add_verb, columns_of, load, pairs
from bm3_pyg.errors import ConfigError
from bm3_pyg.files import check_parent
from bm3_pyg.names import SPLIT_RULES, WHOLE


def add_data(verbs: Any) -> None:
    """The commands below ``bm3 data``."""
    data = verbs.add_parser("data", help="prepare and look at datasets").add_subparsers(
        metavar="COMMAND", required=True
    )
    _add_prepare(data)

    command = add_verb(data, "describe", _describe, "what is in a dataset", "bm3 data describe data/baby --json")
    add_source(command)
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--picture", metavar="FILE", help="draw degrees, splits and gaps too, a .png or .svg")


def _add_prepare(data: Any) -> None:
    command = add_verb(
        data,
        "prepare",
        _prepare,
        "make a dataset's folder from raw files: Amazon's, or your own",
        "bm3 data prepare baby --root data\n"
        "  bm3 data prepare baby --from downloads --text-encoder none --no-images\n"
        "  bm3 data prepare --interactions clicks.csv --items items.csv --text-columns title,description --out shop",
    )
    command.add_argument("name", nargs="?", choices=["baby", "sports", "electronics"], help="an Amazon dataset")
    command.add_argument("--split", choices=SPLIT_RULES, help="how to hold out (default: random)")
    command.add_argument("--seed", type=whole(0, WHOLE), default=0, metavar="N", help="seed of the split (default: 0)")
    command.add_argument(
        "--core",
        type=whole(0, WHOLE),
        metavar="K",
        help="keep users and items with K interactions, 0: all (default: 5 for Amazon's, else all)",
    )
    command.add_argument(
        "--text-encoder",
        default="all-MiniLM-L6-v2",
        metavar="NAME|PATH",
        help="sentence-transformers model for texts, or none (default: all-MiniLM-L6-v2)",
    )
    command.add_argument("--out", metavar="DIR", help="folder to make (default for Amazon's: NAME in --root)")
    amazon = command.add_argument_group("Amazon's files")
    amazon.add_argument("--root", metavar="DIR", help="where the files go (default: data); raw files go below raw")
    amazon.add_argument(
        "--from", dest="source", metavar="PATH", help="folder or archive with raw or MMRec files; nothing is downloaded"
    )
    amazon.add_argument("--no-images", action="store_true", help="leave the image features out (electronics: 8 GB)")
    amazon.add_argument("--url", nargs="+", action="extend", metavar="FILE=URL", help="another address of a raw file")
    amazon.add_argument("--offline", action="store_true", help="use what is there, say what is missing")
    amazon.add_argument("--force", action="store_true", help="download again, whatever was recorded of a file")
    own = command.add_argument_group("your own catalogue")
    own.add_argument("--interactions", metavar="FILE", help="a .csv, .tsv, .jsonl or .parquet table, or -")
    own.add_argument("--items", metavar="FILE", help="a table of every item")
    own.add_argument("--text-columns", metavar="NAME,NAME", help="columns of --items to encode as the feature text")
    own.add_argument(
        "--features", nargs="+", action="extend", metavar="NAME=PATH", help=".npy, table, or folder of ID.txt files"
    )
    add_columns(own)


AMAZON = ("--root", "--from", "--no-images", "--url", "--offline", "--force")
OWN = (
    *("--items", "--text-columns", "--features", "--user-column", "--item-column", "--time-column"),
    *("--rating-column", "--label-column", "--id-column", "--columns"),
)


def _prepare(args: argparse.Namespace) -> None:
    logging.getLogger("bm3_pyg.prepare").setLevel(logging.INFO)
    if (args.name is None) == (args.interactions is None):
        raise ConfigError("bm3 data prepare: expected either a NAME (baby, sports, electronics) or --interactions")
    for option in OWN if args.name else AMAZON:
        if getattr(args, "source" if option == "--from" else option[2:].replace("-", "_")):
            raise ConfigError(
                f"{option}: is for {'your own catalogue' if args.name else 'Amazon data'}, got it here too"
            )
    print(_prepare_amazon(args) if args.name else _prepare_catalogue(args))


def _prepare_amazon(args: argparse.Namespace) -> Path:
    from bm3_pyg.data.amazon import prepare_amazon

    return prepare_amazon(
        args.name,
        args.root or "data",
        source=args.source,
        out=args.out,
        urls=pairs(args.url, "--url"),
        offline=args.offline,
        force=args.force,
        split=args.split or "random",
        seed=args.seed,
        core=5 if args.core is None else args.core or None,
        text_encoder=_encoder(args),
        images=not args.no_images,
    )


def _prepare_catalogue(args: argparse.Namespace) -> Path:
    from bm3_pyg.data import prepare_catalogue

    if args.out is None:
        raise ConfigError("--interactions: expected --out with the folder to make")
    return prepare_catalogue(
        args.interactions,
        args.items,
        args.out,
        text_columns=args.text_columns.split(",") if args.text_columns else [],
        text_encoder=_encoder(args),
        features=pairs(args.features, "--features"),
        seed=args.seed,
        split=args.split,
        core=args.core or None,
        **columns_of(args),
    )


def _encoder(args: argparse.Namespace) -> str | None:
    return None if args.text_encoder == "none" else str(args.text_encoder)


def _describe(args: argparse.Namespace) -> None:
    if args.picture is not None:
        check_file(args.picture, (".png", ".svg"))
        check_parent(args.picture)
    data = load(args)

    from bm3_pyg.data import describe

    card = describe(data)
    if args.picture is not None:
        from bm3_pyg.study.picture import dataset_picture

        dataset_picture(data, Path(args.picture))
    if args.json:
        print(json.dumps(card, indent=2))
        return
    from bm3_pyg.study import description

    print(description(card))
