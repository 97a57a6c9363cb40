"""Damages files at random and uses them: ``python -m tests.contracts.fuzz --seconds 120 --seed 0``.

Every use must end right or refuse in one line that names the file. Anything else is printed with what repeats it:

    python -m tests.contracts.fuzz --seed 0 --case 417
"""

from __future__ import annotations

import argparse
import collections
import logging
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: cases run in forks

import torch

from bm3_pyg.errors import BM3Error
from tests.contracts.damage import damage
from tests.contracts.targets import MAKERS, TARGETS, Refused

OUTCOMES = ("right", "clear error", "unclear error", "silent", "traceback", "hang", "crash")
BAD = OUTCOMES[2:]
PATIENCE = 30  # seconds
MEMORY = 6 << 30  # bytes that a case may take beyond what is mapped


def run_case(
    seed: int, case: int, only: list[str], templates: Path, place: Path, before: dict[str, Any]
) -> tuple[str, str]:
    """Damage and use one file: the outcome, and a line about it."""
    random = Random(f"{seed}/{case}")
    name = random.choice(only)
    target = TARGETS[name]
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(templates / target.folder, place)
    files = sorted(path for pattern in target.files for path in place.glob(pattern) if path.is_file())
    path = random.choice(files)
    line = f"case {case}: {name}: {path.relative_to(place)}: {damage(path, random)}"
    outcome, found = use(target, place, path, before[name])
    return outcome, f"{outcome}: {line}: {found}"


def use(target: Any, place: Path, path: Path, before: Any) -> tuple[str, str]:
    try:
        after = target.use(place)
    except (BM3Error, Refused) as error:
        told = str(error)
        elsewhere = path.name == "config.yaml" and "no such file" in told  # the dataset's path was damaged
        elsewhere = elsewhere or path.parent.name == "settings"
        named = elsewhere or any(part in told for part in (path.name, path.parent.name))
        clear = named and told.isprintable() and len(told) < 1500
        return ("clear error" if clear else "unclear error"), told[:600]
    except BaseException as error:  # Rust's panics are no Exception
        where = "".join(traceback.format_exception(error)[-4:]).strip()
        return "traceback", where[-1500:]
    try:
        right = target.right(place, before, after)
    except Exception as error:
        return "silent", f"no telling what is right ({error!r:.200}), got {after!r:.200}"
    return ("right", "") if right else ("silent", f"{before!r:.300} became {after!r:.300}")


def child(write: int, seed: int, cases: Any, only: list[str], folder: Path) -> None:
    """Cases one after the other, a line to the parent for each."""
    resource.setrlimit(resource.RLIMIT_AS, (_mapped() + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(1000)
    templates, place = folder / "templates", folder / "case"
    before = {}
    for name in only:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(templates / TARGETS[name].folder, place)
        before[name] = TARGETS[name].use(place)
    for case in cases:
        os.write(write, f"begin\t{case}\n".encode())
        outcome, line = run_case(seed, case, only, templates, place, before)
        text = line.encode("unicode_escape", "replace").decode()
        os.write(write, f"{outcome}\t{text[:3000]}\n".encode())


def make_templates(folder: Path) -> None:
    place = folder / "case"  # where they are used, as runs hold the dataset's path
    for name, make in MAKERS.items():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        make(place)
        for target in TARGETS.values():
            if target.folder == name and any("cache" in pattern for pattern in target.files):
                target.use(place)
        shutil.move(place, folder / "templates" / name)


def forked(work: Any) -> tuple[int, int]:
    """A process of its own for ``work(pipe)``: its number, and where to read what it says."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    code = 1
    try:
        os.close(read)
        work(write)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=sys.maxsize, help="at most, however fast the machine")
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument(
        "--only", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS)
    )
    parser.add_argument("--verbose", action="store_true", help="print every case")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    os.environ["BM3_CACHE"] = str(folder / "case" / "cache")
    try:
        counts = campaign(args, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"seed {args.seed}: {sum(counts.values())} tried, " + ", ".join(f"{counts[one]} {one}" for one in OUTCOMES))
    return int(any(counts[one] for one in BAD))


def campaign(args: argparse.Namespace, folder: Path) -> collections.Counter[str]:
    pid, _ = forked(lambda write: make_templates(folder))
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("the undamaged files could not be made")
    counts: collections.Counter[str] = collections.Counter()
    begun, last = time.monotonic(), -1
    wanted = [args.case] if args.case is not None else None
    while time.monotonic() - begun < args.seconds and last + 1 < args.cases:
        cases = wanted or range(last + 1, args.cases)
        pid, read = forked(lambda write, cases=cases: child(write, args.seed, cases, args.only, folder))
        current, ended = watch(read, counts, begun + args.seconds, args.verbose or wanted is not None)
        os.close(read)
        os.kill(pid, signal.SIGKILL) if ended != "done" else None
        status = os.waitpid(pid, 0)[1]
        if current is None and ended == "done" and status:
            raise SystemExit("the undamaged files cannot be used")
        if ended == "hang" or (ended == "done" and status):
            outcome = "hang" if ended == "hang" else "crash"
            counts[outcome] += 1
            print(f"{outcome}: case {current} (status {status})", flush=True)
        if ended == "time" or wanted:
            break
        last = current if current is not None else last
    return counts


def watch(read: int, counts: collections.Counter[str], deadline: float, verbose: bool) -> tuple[int | None, str]:
    """Count what a child says, until it is done, says nothing for too long, or time is up; the case it was at."""
    current, buffer = None, b""
    while True:
        ready = select.select([read], [], [], PATIENCE)[0]
        if not ready:
            return current, "hang"
        part = os.read(read, 1 << 16)
        if not part:
            return current, "done"
        buffer += part
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            outcome, _, text = line.decode().partition("\t")
            if outcome == "begin":
                current = int(text)
                if time.monotonic() > deadline:
                    return current, "time"
                continue
            counts[outcome] += 1
            if outcome in BAD or verbose:
                print(text.replace("\\n", "\n    "), flush=True)


if __name__ == "__main__":
    sys.exit(main())
