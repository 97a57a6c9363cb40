"""The ``bm3`` command. Every verb is a call anyone can make from Python."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from bm3_pyg.cli.data import add_data
from bm3_pyg.cli.models import add_models
from bm3_pyg.cli.runs import QUIET, add_runs
from bm3_pyg.cli.startup import load_when_used
from bm3_pyg.cli.study import add_study
from bm3_pyg.cli.terminal import LogHandler, OutputError, Unread, line, printing
from bm3_pyg.cli.transfer import add_transfer
from bm3_pyg.errors import BM3Error
from bm3_pyg.train.interrupt import terminable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default that of the command line.

    Returns:
        0 if it worked, 2 for bad input (one line on standard error says what), 130 if interrupted, 141 if nobody reads
        the output any more.
    """
    if arguments is None:
        load_when_used()
    try:
        with printing():
            return _run(arguments)
    except OutputError as error:
        print(f"bm3: {error}", file=sys.stderr)
        return 2
    except Unread:
        return 141


def _run(arguments: Sequence[str] | None) -> int:
    logging.basicConfig(format="%(message)s", handlers=[LogHandler()])
    try:
        args = _parser().parse_args(arguments)
        args.command_line = ["bm3", *(sys.argv[1:] if arguments is None else arguments)]
        logging.getLogger("bm3_pyg").setLevel(logging.ERROR if args.run in QUIET else logging.WARNING)
        for always in ("bm3_pyg.lists", "bm3_pyg.runs"):
            logging.getLogger(always).setLevel(logging.WARNING)
        logging.getLogger("bm3_pyg.waiting").setLevel(logging.INFO)
        with terminable():
            args.run(args)
    except OutputError:
        raise
    except BM3Error as error:
        print(f"bm3: {line(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"bm3: {line(error.filename or 'file')}: {line(error.strerror or error)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _no_memory(error):
            raise
        print(f"bm3: not enough memory ({line(error)[:200]})", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"bm3: {line(str(interrupt) or 'interrupted')}", file=sys.stderr)
        return 130
    return 0


def _no_memory(error: BaseException) -> bool:
    """Also PyTorch's, which is a RuntimeError that says so."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {line(message)} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bm3", description="BM3 multimodal recommendation: train, evaluate, recommend.")
    parser.add_argument("--version", action="version", version=f"bm3 {version('bm3-pyg')}")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    add_data(verbs)
    add_models(verbs)
    add_runs(verbs)
    add_study(verbs)
    add_transfer(verbs)
    return parser
