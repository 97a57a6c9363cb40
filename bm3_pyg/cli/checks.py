"""What can be told of a command before PyTorch is loaded: its numbers, names, folders and files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from bm3_pyg.errors import ConfigError, RunError, WriteError, check_number, shown
from bm3_pyg.files import check_new_folder, check_place, check_suffix

LONGEST_LIST = 1_000_000
MOST_SEEDS = 10_000
MOST_JOBS = 1_000


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of integers from ``low`` to ``high``, for argparse."""

    def read(text: str) -> int:
        value = int(text) if text.strip().lstrip("+-").isdecimal() and len(text) < 30 else text
        try:
            check_number("", value, int, low, high + 1)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix(": ")) from None
        return int(value)

    return read


list_length = whole(1, LONGEST_LIST)


def cutoffs(text: str) -> list[int]:
    """``"10,20"`` as integers, for argparse."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"got {shown(text)}, expected integers such as 10,20")
    return [list_length(part) for part in parts]


def check_run(folder: str | Path) -> None:
    """Raise :class:`RunError` if the folder is no run, its configuration is damaged, or it has no weights yet."""
    from bm3_pyg.train.run_files import read_config

    read_config(Path(folder))
    if not (best := Path(folder) / "best.pt").is_file():
        raise RunError(f"{best}: no such checkpoint, expected a run that was trained to its first evaluation")


def check_new(path: str | Path) -> None:
    """Raise unless a folder can be made at ``path``, or an empty one is there."""
    check_new_folder(path)
    check_place(path)


def check_file(path: str | Path, suffixes: tuple[str, ...]) -> None:
    """Raise unless ``path`` has one of the suffixes and can be written."""
    check_suffix(path, suffixes)
    if Path(path).is_dir():
        raise WriteError(f"{path}: cannot be written (it is a folder)")
    check_place(path)
