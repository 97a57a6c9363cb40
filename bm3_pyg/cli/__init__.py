"""The ``bm3`` command. Every verb is a call anyone can make from Python."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from bm3_pyg.cli.data import add_data
from bm3_pyg.cli.runs import QUIET, add_runs
from bm3_pyg.cli.study import add_study
from bm3_pyg.cli.transfer import add_transfer
from bm3_pyg.errors import BM3Error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it worked, 2 for bad input (one line on standard error), 130 if interrupted."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        args = _parser().parse_args(arguments)
        logging.getLogger("bm3_pyg").setLevel(logging.ERROR if args.run in QUIET else logging.WARNING)
        args.run(args)
    except BM3Error as error:
        print(f"bm3: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"bm3: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        try:
            words = str(interrupt) or "interrupted"
        except KeyboardInterrupt:  # polars lets one Ctrl-C come twice
            words = "interrupted"
        print(f"bm3: {words}", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bm3", description="BM3 multimodal recommendation: train, evaluate, recommend.")
    parser.add_argument("--version", action="version", version=f"bm3 {version('bm3-pyg')}")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    add_data(verbs)
    add_runs(verbs)
    add_study(verbs)
    add_transfer(verbs)
    return parser
