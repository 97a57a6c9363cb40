"""Kills runs at random moments and resumes them: ``python -m tests.end_to_end.kills --kills 200 --seed 0``.

However often and whenever a run was killed, what it ends with is what it would have come to in one go, byte for byte:
metrics.json, the values per user, the recommendations, and history.jsonl but for seconds and memory.
A moment is either a time after the start or a number of file operations; ``--only N`` repeats the N-th run.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "BM3_KERNELS": "torch",
}  # before torch: runs are forks, which threads would not survive

from bm3_pyg.cli import main as bm3
from bm3_pyg.train import fit  # noqa: F401  # imported once, not in every fork
from tests.contracts.targets import make_mmrec

PATIENCE = 60  # seconds
MODELS = (
    ("bm3", "dropout=0.3", "embedding_dim=8"),
    ("bm3", "num_layers=2", "freeze_features=true", "embedding_dim=8"),
    ("lightgcn", "embedding_dim=8"),
    ("bprmf", "embedding_dim=8"),
    ("vbpr", "embedding_dim=8"),
    ("freedom", "embedding_dim=8"),
    ("itemknn",),
    ("popularity",),
)
TRAINING = (
    ("max_epochs=5", "batch_size=8", "checkpoint_seconds=0"),
    ("max_epochs=5", "batch_size=8", "checkpoint_seconds=300"),
    ("max_epochs=9", "batch_size=8", "checkpoint_seconds=0.02", "eval_every=2", "patience=2"),
)
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
GENTLE = (signal.SIGTERM, signal.SIGINT)
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "shutil.rmtree")


class Kill(NamedTuple):
    """A signal, either so many seconds after the start or before the so-manieth operation on files."""

    signal: int
    seconds: float | None = None
    operation: int | None = None

    def __str__(self) -> str:
        when = f"before file operation {self.operation}" if self.seconds is None else f"after {self.seconds:.3f} s"
        return f"{signal.Signals(self.signal).name} {when}"


class Ended(NamedTuple):
    """How a process ended: its exit code (or minus the signal), the time it took, its operations on files."""

    code: int
    seconds: float
    operations: int
    log: str


def run(arguments: list[str], log: Path, kill: Kill | None = None) -> Ended:
    """``bm3 arguments`` in a fork."""
    started = time.monotonic()
    counted = log.with_suffix(".count")
    signal.pthread_sigmask(signal.SIG_BLOCK, GENTLE)  # until the child is at its command
    pid = os.fork()
    if pid == 0:
        _child(arguments, log, counted, kill)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GENTLE)
    if kill is not None and kill.seconds is not None:
        time.sleep(kill.seconds)
        os.kill(pid, kill.signal)
    while not (found := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() - started > PATIENCE:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise SystemExit(f"bm3 {' '.join(arguments)} hangs:\n{log.read_text()}")
        time.sleep(0.002)
    operations = int(counted.read_text()) if counted.exists() else 0
    counted.unlink(missing_ok=True)
    return Ended(os.waitstatus_to_exitcode(found[1]), time.monotonic() - started, operations, log.read_text())


def _child(arguments: list[str], log: Path, counted: Path, kill: Kill | None) -> None:
    code, begun = 1, False
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        numbers = itertools.count()
        count = 0

        def before(event: str, details: tuple[object, ...]) -> None:
            nonlocal count
            if event not in EVENTS or (event == "open" and not _writes(details)):
                return
            count = next(numbers)
            if kill is not None and count == kill.operation:
                os.kill(os.getpid(), kill.signal)

        sys.addaudithook(before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, GENTLE)
        begun = True
        code = bm3(arguments)
        counted.write_text(str(count))
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        code = 1 if begun else 130
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _writes(details: tuple[object, ...]) -> bool:
    flags = details[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def outcome(folder: Path, log: Path) -> dict[str, bytes]:
    """What a finished run and its lists are, without times and memory."""
    lists = log.with_suffix(".csv")
    ended = run(["recommend", str(folder), "--k", "4", "--out", str(lists)], log)
    if ended.code:
        raise SystemExit(f"{folder}: no recommendations:\n{ended.log}")
    kept = ("metrics.json", "test_users.parquet", "test_positives.parquet", "beyond.json")
    found = {name: (folder / name).read_bytes() for name in kept}
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    plain = [{k: v for k, v in record.items() if "seconds" not in k and "memory" not in k} for record in records]
    names = sorted(path.name for path in folder.rglob("*"))
    return found | {"history": json.dumps(plain).encode(), "lists": lists.read_bytes(), "files": repr(names).encode()}


def kills_of(random: Random, whole: Ended) -> Iterator[Kill]:
    """One to three kills, at any moment of a run that takes as long as ``whole`` did."""
    for _ in range(random.choice([1, 1, 2, 3])):
        number = random.choice(SIGNALS)
        if random.random() < 0.5:
            yield Kill(number, seconds=random.uniform(0, 1.05 * whole.seconds))
        else:
            yield Kill(number, operation=random.randint(0, whole.operations))


def killed(name: str, folder: Path, train: list[str], kills: list[Kill], log: Path) -> tuple[int, str]:
    """Kill a run in ``folder`` again and again, then let it finish: how many kills met it, and what went wrong."""
    met = 0
    for kill in [*kills, None]:
        again = (folder / "config.yaml").exists()
        arguments = ["train", "--out", str(folder), "--resume"] if again else train
        ended = run(arguments, log, kill)
        if kill is None and ended.code == 0:
            return met, ""
        if kill is None or (ended.code not in (0, 130, -kill.signal)):
            return met, f"{name}: {kill or 'the last call'}: exit code {ended.code}: {ended.log[-1500:]}"
        met += ended.code != 0
    raise AssertionError


def campaign(wanted: int, seed: int, only: int | None, place: Path) -> int:
    make_mmrec(place)
    wholes: dict[tuple[str, ...], tuple[Ended, dict[str, bytes]]] = {}
    counts: collections.Counter[str] = collections.Counter()
    met, number, bad = 0, -1, 0
    while met < wanted:
        number += 1
        random = Random(f"{seed}/{number}")
        model, *options = random.choice(MODELS)
        settings = (model, *options, *random.choice(TRAINING))
        train = ["train", str(place), "--model", model, "--seed", "3", "--set", *settings[1:]]
        if only not in (None, number):
            continue
        if settings not in wholes:
            folder = place / f"whole-{len(wholes)}"
            ended = run([*train, "--out", str(folder)], place / "log")
            if ended.code:
                raise SystemExit(f"{settings}: {ended.log}")
            wholes[settings] = ended, outcome(folder, place / "log")
        whole, expected = wholes[settings]
        kills = list(kills_of(random, whole))
        folder = place / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        name = f"run {number}: {' '.join(settings)}: {', '.join(map(str, kills))}"
        hits, wrong = killed(name, folder, [*train, "--out", str(folder)], kills, place / "log")
        if not wrong:
            found = outcome(folder, place / "log")
            if different := [key for key in expected if found[key] != expected[key]]:
                wrong = f"{name}: other than uninterrupted: " + "; ".join(
                    f"{key}: {found[key][:300]!r}, expected {expected[key][:300]!r}" for key in different
                )
        met += hits
        counts["runs"] += 1
        if wrong:
            bad += 1
            print(wrong, flush=True)
        if only is not None:
            break
    print(f"seed {seed}: {met} kills in {counts['runs']} runs of {len(wholes)} settings, {bad} runs went wrong")
    return int(bad > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="N", help="the N-th run alone")
    args = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        return campaign(args.kills, args.seed, args.only, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
