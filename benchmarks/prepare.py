"""Prepare raw files of a share of Amazon electronics' size, generated on the spot: seconds per step and peak memory.

    python benchmarks/prepare.py --share 0.01
    python benchmarks/prepare.py --share 1 --folder /data/raw-electronics

At share 1 the files have the real ones' sizes in lines and records (the .b file takes 8.2 GB; 12 GB of disk in all).
Writing the files and preparing them each take place in a process of their own, so that the peak is preparing's alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

ELECTRONICS = (192_403, 63_001, 1_689_188, 7_824_482, 498_196)  # as in raw_amazon.Size
CATEGORY = "Electronics"
STAND_IN = "stand-in"


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        raw = folder / "raw"
        if not (raw / f"image_features_{CATEGORY}.b").exists():
            raw.mkdir(parents=True, exist_ok=True)
            _in_own_process(_write, raw, args.share)
        measured = []
        for kind in args.interactions:
            with tempfile.TemporaryDirectory(dir=folder) as out:
                encoder = None if args.text_encoder == "none" else args.text_encoder
                measured.append(_in_own_process(_prepare, raw, Path(out), kind, encoder))
    if args.json:
        print(json.dumps({"share": args.share, "text_encoder": args.text_encoder, "measured": measured}, indent=2))
        return
    for measurement in measured:
        print(_table(measurement))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.01, help="of electronics' size (default: 0.01)")
    parser.add_argument("--folder", help="where the raw files go, and stay (default: a temporary folder)")
    parser.add_argument(
        "--text-encoder",
        default=STAND_IN,
        help="a sentence encoder, none, or stand-in: texts are read, but not encoded (default: stand-in)",
    )
    parser.add_argument(
        "--interactions",
        nargs="+",
        choices=["reviews", "ratings"],
        default=["reviews", "ratings"],
        help="what to read them from (default: one after the other)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


def _in_own_process(work: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _write(raw: Path, share: float) -> None:
    from raw_amazon import Size, write_raw

    write_raw(raw, CATEGORY, Size(*(max(1, round(share * number)) for number in ELECTRONICS)))


def _prepare(raw: Path, out: Path, interactions: str, encoder: str | None) -> dict[str, Any]:
    """Prepare from links to the files, so that only one kind of interactions is at hand."""
    from bm3_pyg.data.amazon import prepare_amazon
    from bm3_pyg.data.amazon.release import addresses
    from bm3_pyg.data.prepared import read_card

    steps = _Steps()
    logger = logging.getLogger("bm3_pyg.prepare")
    logger.setLevel(logging.INFO)
    logger.addHandler(steps)
    source = out / "source"
    source.mkdir()
    for file in addresses("electronics"):
        if not file.startswith(("reviews_", "ratings_")) or file.startswith(interactions):
            (source / file).symlink_to(raw.resolve() / file)
    with ExitStack() as stack:
        if encoder == STAND_IN:
            stack.enter_context(mock.patch("bm3_pyg.data.steps.encode_texts", _zeros))
            stack.enter_context(mock.patch("bm3_pyg.data.amazon.prepare.find_model", Path))
        start = time.perf_counter()
        folder = prepare_amazon("electronics", out, source=source, text_encoder=encoder)
        seconds = time.perf_counter() - start
    card = read_card(folder)
    return {
        "interactions from": interactions,
        **{key: card[key] for key in ("users", "items", "interactions")},
        "source bytes": {name: file["bytes"] for name, file in card["sources"].items()},
        "seconds": steps.seconds,
        "seconds in all": round(seconds, 1),
        "peak GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
    }


def _zeros(texts: Sequence[str], encoder: str) -> NDArray[np.float32]:
    return np.zeros((len(texts), 384), dtype=np.float32)


class _Steps(logging.Handler):
    """Seconds by step, as preparing logs them."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and len(record.args) == 2:
            name, seconds = record.args
            self.seconds[str(name)] = round(float(str(seconds)), 2)


def _table(measured: dict[str, Any]) -> str:
    from tabulate import tabulate

    facts = [(key, f"{measured[key]:,}") for key in ("users", "items", "interactions")]
    facts += [(name, f"{size / 1e9:.3f} GB") for name, size in measured["source bytes"].items()]
    facts += [(name, f"{seconds:.1f} s") for name, seconds in measured["seconds"].items()]
    facts += [("in all", f"{measured['seconds in all']:.1f} s"), ("peak memory", f"{measured['peak GB']:.2f} GB")]
    return tabulate(facts, [f"from {measured['interactions from']}", ""], tablefmt="github", colalign=("left", "right"))


if __name__ == "__main__":
    main()
