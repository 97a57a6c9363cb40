"""``bm3 data``: look at datasets."""

from __future__ import annotations

import argparse
import json
from typing import Any

from bm3_pyg.cli.options import add_source, add_verb, load


def add_data(verbs: Any) -> None:
    """The commands below ``bm3 data``."""
    data = verbs.add_parser("data", help="look at datasets").add_subparsers(metavar="COMMAND", required=True)
    command = add_verb(data, "describe", _describe, "what is in a dataset", "bm3 data describe data/baby --json")
    add_source(command)
    command.add_argument("--json", action="store_true", help="print JSON")


def _describe(args: argparse.Namespace) -> None:
    from bm3_pyg.data import describe

    card = describe(load(args))
    if args.json:
        print(json.dumps(card, indent=2))
        return
    from bm3_pyg.report import description

    print(description(card))
