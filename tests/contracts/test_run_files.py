"""Whatever is wrong with a file of a run: a command gives the right result, or refuses in one line that names it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
import torch
import yaml

import bm3_pyg
from bm3_pyg.errors import RunError
from bm3_pyg.train.checkpoint import load_checkpoint
from bm3_pyg.train.run_files import RunFiles
from tests.contracts.damage import damage
from tests.contracts.fuzz import use
from tests.contracts.targets import TARGETS, Target, bm3, make_runs

CPU = torch.device("cpu")
Damage = Callable[[Path], object]


def similar(folder: Path) -> str:
    (folder / "items.txt").write_text("i1\ni2\n")
    return bm3("similar", folder / "run", "--items", folder / "items.txt", "--k", "3")


def exported(folder: Path) -> dict[str, bytes]:
    shutil.rmtree(folder / "out", ignore_errors=True)
    bm3("export", folder / "run", "--format", "npy", "--out", folder / "out")
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


def popular(folder: Path) -> str:
    return bm3("evaluate", folder / "popular", "--json")


USES = {
    **{name: TARGETS[name] for name in ("evaluate", "recommend", "report", "resume", "sweep")},
    "similar": Target("runs", (), similar),
    "export": Target("runs", (), exported),
    "popular": Target("runs", (), popular),
}


# Damage -------------------------------------------------------------------------------------------------------------


def raw(change: Callable[[bytes], bytes]) -> Damage:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def in_place(make: Damage) -> Damage:
    """Something else of the file's name."""

    def put(path: Path) -> None:
        path.unlink()
        make(path)

    return put


def tree(change: Callable[[Any], object]) -> Damage:
    """A change to what a JSON or YAML file holds."""

    def put(path: Path) -> None:
        load, dump = (yaml.safe_load, yaml.safe_dump) if path.suffix == ".yaml" else (json.loads, json.dumps)
        found = load(path.read_text())
        change(found)
        path.write_text(dump(found))

    return put


def lines(change: Callable[[list[str]], object]) -> Damage:
    def put(path: Path) -> None:
        found = path.read_text().splitlines(keepends=True)
        change(found)
        path.write_text("".join(found))

    return put


def record(**values: object) -> Damage:
    """Other values in the second line of the history."""
    return lines(lambda content: content.__setitem__(1, json.dumps({**json.loads(content[1]), **values}) + "\n"))


def table(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Damage:
    return lambda path: change(pl.read_parquet(path)).write_parquet(path)


def tensors(change: Callable[[dict[str, Any]], object]) -> Damage:
    """A change to what a checkpoint holds, written whole."""

    def put(path: Path) -> None:
        found = torch.load(path, weights_only=True)
        change(found)
        torch.save(found, path)

    return put


def put(*keys: Any, value: Any) -> Callable[[Any], None]:
    def change(found: Any) -> None:
        for key in keys[:-1]:
            found = found[key]
        found[keys[-1]] = value

    return change


def drop(*keys: Any) -> Callable[[Any], None]:
    def change(found: Any) -> None:
        for key in keys[:-1]:
            found = found[key]
        del found[keys[-1]]

    return change


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
ANY: dict[str, Damage] = {
    "empty": raw(lambda content: b""),
    "cut": raw(lambda content: content[: len(content) // 2]),
    "a byte short": raw(lambda content: content[:-3]),
    "twice": raw(lambda content: content + content),
    "zeros": raw(lambda content: bytes(len(content))),
    "other": raw(lambda content: b"hello\n"),
    "gone": lambda path: path.unlink(),
    "a folder": in_place(lambda path: path.mkdir()),
    "a link to nothing": in_place(lambda path: path.symlink_to("nowhere")),
    "a link to itself": in_place(lambda path: path.symlink_to(path.name)),
    "a pipe": in_place(os.mkfifo),
    "a device": in_place(lambda path: path.symlink_to("/dev/zero")),
}
TEXT: dict[str, Damage] = {
    "not UTF-8": raw(lambda content: content.replace(b" ", b" \xe9", 1)),
    "a NUL": raw(lambda content: content.replace(b" ", b" \0", 1)),
    "deep": raw(lambda content: b"[" * 100_000),
    "deep mappings": raw(lambda content: b'{"a":' * 100_000),
    "a number": raw(lambda content: b"7"),
    "a long number": raw(lambda content: b'{"schema": ' + b"9" * 5000 + b"}"),
    "an escape": raw(lambda content: b'{"\x1b[31m\\u001b": 1}'),
}
SEEDS: tuple[Any, ...] = ("abc", -1, 10**40, 1.5, None, [])
FIGURES: tuple[Any, ...] = ("a", None, [], -0.1, 1.5, 10**40)
CONFIG: dict[str, Damage] = {
    "a comment that is not UTF-8": raw(lambda content: b"# caf\xe9\n" + content),
    "laughs": raw(lambda content: LAUGHS.encode() + content),
    "an alias": raw(lambda content: content.replace(b"schema: 1", b"schema: &a 1").replace(b"seed: 0", b"seed: *a")),
    "a tag": raw(lambda content: content.replace(b"schema: 1", b"schema: !!python/object/apply:os.getpid []")),
    "a key twice": raw(lambda content: content + b"schema: 1\n"),
    "no date": raw(lambda content: content.replace(b"seed: 0", b"seed: 2021-99-99")),
    "sourse": raw(lambda content: content.replace(b"source:", b"sourse:", 1)),
    "sourse within": raw(lambda content: content.replace(b"source: /", b"sourse: /", 1)),
    "source 3": tree(put("dataset", "source", value=3)),
    "a source that is elsewhere": tree(put("dataset", "source", "source", value="/nowhere")),
    "another fingerprint": tree(put("dataset", "fingerprint", value="0" * 64)),
    "no fingerprint": tree(drop("dataset", "fingerprint")),
    "no section": tree(drop("train")),
    "a list for a section": tree(put("train", value=[1])),
    "schema 2": tree(put("schema", value=2)),
    "schema true": tree(put("schema", value=True)),
    "another model": tree(put("model", "name", value="bprmf")),
    "no model": tree(put("model", "name", value="../bm3")),
    "an option too many": tree(put("model", "options", "layers", value=2)),
    "options in a list": tree(put("model", "options", value=[{}])),
    "another option": tree(put("model", "options", "num_layers", value=2)),
    "wide": tree(put("model", "options", "embedding_dim", value=10**12)),
    "wider": tree(put("model", "options", "embedding_dim", value=4000)),
    "many layers": tree(put("model", "options", "num_layers", value=10**9)),
    "many modalities": tree(put("model", "options", "modalities", value=["image", "image"])),
    "a nested option": tree(put("model", "options", "dropout", value=[[1]])),
    **{f"seed {value!r}": tree(put("train", "seed", value=value)) for value in SEEDS},
    **{f"lr {value!r}": tree(put("train", "lr", value=value)) for value in ("abc", -1, float("nan"), float("inf"))},
    "batch_size": tree(put("train", "batch_size", value=10**30)),
    "mask": tree(put("train", "mask", value="none")),
    "patients": tree(put("train", "patients", value=3)),
}
METRICS: dict[str, Damage] = {
    **{f"recall {value!r}": tree(put("test", "recall@20", value=value)) for value in FIGURES},
    "NaN": raw(lambda content: re.sub(rb'"recall@20": [0-9.]+', b'"recall@20": NaN', content)),
    "1e999": raw(lambda content: re.sub(rb'"recall@20": [0-9.]+', b'"recall@20": 1e999', content)),
    "a digit": tree(lambda content: content["test"].update({"recall@20": content["test"]["recall@20"] * 0.99})),
    "a digit of validation": tree(
        lambda content: content["val"].update({"recall@5": content["val"]["recall@5"] * 0.99})
    ),
    "a key of another name": raw(lambda content: content.replace(b"recall@20", b"recoil@20")),
    "a key twice": raw(lambda content: content.replace(b'"schema": 1', b'"schema": 1, "seed": 0')),
    "no test": tree(drop("test")),
    "test in a list": tree(put("test", value=[])),
    "another seed": tree(put("seed", value=5)),
    "another model": tree(put("model", value="bprmf")),
    **{f"best_epoch {value!r}": tree(put("best_epoch", value=value)) for value in ("x", -1, 99, 1.5, True)},
}
HISTORY: dict[str, Damage] = {
    "a broken line": lines(lambda content: content.__setitem__(1, content[1][:40] + "\n")),
    "a line less": lines(lambda content: content.pop(1)),
    "a line twice": lines(lambda content: content.insert(1, content[1])),
    "lines swapped": lines(lambda content: content.reverse()),
    "a blank line": lines(lambda content: content.insert(1, "\n")),
    **{f"epoch {value!r}": record(epoch=value) for value in (-1, "2", None, 1, 10**30)},
    "a loss that is text": record(loss={"total": "a"}),
    "a loss less": record(loss={}),
    "validation in a list": record(val=[1]),
    "negative seconds": record(train_seconds=-1.0),
    "a key too many": record(lost=1),
}
SEAL: dict[str, Damage] = {
    "another hash": tree(put("files", "config.yaml", value="0" * 64)),
    "no hash": tree(put("files", "best.pt", value=3)),
    "files in a list": tree(put("files", value=[])),
}
USERS: dict[str, Damage] = {
    "a row less": table(lambda content: content[1:]),
    "no rows": table(lambda content: content[:0]),
    "a column less": table(lambda content: content.drop("recall@20")),
    "another type": table(lambda content: content.cast({"recall@20": pl.String})),
    "floats": table(lambda content: content.cast({"user": pl.Float64})),
    "empty cells": table(lambda content: content.with_columns(pl.lit(None, pl.Float64).alias("recall@20"))),
    "NaN": table(lambda content: content.with_columns(pl.lit(float("nan")).alias("recall@20"))),
    "above 1": table(lambda content: content.with_columns(pl.lit(1.5).alias("recall@20"))),
    "other values": table(lambda content: content.with_columns(pl.col("ndcg@10") * 0.9)),
    "one user twice": table(lambda content: pl.concat([content, content[:1]])),
}
POSITIVES: dict[str, Damage] = {
    "a row less": table(lambda content: content[1:]),
    "no hits": table(lambda content: content.drop("hit")),
    "negative": table(lambda content: content.with_columns(pl.col("item") - 100)),
}
BEYOND: dict[str, Damage] = {
    "text": tree(put("coverage@20", value="much")),
    "above 1": tree(put("coverage@20", value=1.01)),
    "a key less": tree(drop("average_popularity@20")),
}


def weight(change: Callable[[torch.Tensor], torch.Tensor]) -> Damage:
    """A change to the first weight of a checkpoint."""

    def changed(found: dict[str, Any]) -> None:
        name = next(iter(found["model"]))
        found["model"][name] = change(found["model"][name])

    return tensors(changed)


CHECKPOINT: dict[str, Damage] = {
    "no weights": tensors(drop("model")),
    "weights in a list": tensors(put("model", value=[1])),
    "a weight less": tensors(lambda content: content["model"].popitem()),
    "a weight too many": tensors(put("model", "more", value=torch.ones(2))),
    "a weight that is text": tensors(lambda content: content["model"].update({next(iter(content["model"])): "a"})),
    "another shape": weight(lambda value: value[:-1]),
    "another type": weight(lambda value: value.half()),
    "NaN": weight(lambda value: value.fill_(float("nan"))),
    "infinity": weight(lambda value: value.fill_(float("inf"))),
    "schema 2": tensors(put("schema", value=2)),
    "a key too many": tensors(put("more", value=1)),
    "written as of old": lambda path: torch.save(
        torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False
    ),
    "settings of another": tensors(put("settings", value={"name": "bm3", "options": {"num_layers": 7}})),
}
BEST: dict[str, Damage] = {
    "another epoch": tensors(lambda content: content.update(epoch=content["epoch"] + 1)),
    "epoch -1": tensors(put("epoch", value=-1)),
    "of another dataset": tensors(put("fingerprint", value="0" * 64)),
}
LAST: dict[str, Damage] = {
    **{f"no {key}": tensors(drop(key)) for key in ("optimizer", "state", "rng")},
    **{f"no {key} in its state": tensors(drop("state", key)) for key in ("epoch", "order", "best", "without_gain")},
    "no moments": tensors(put("optimizer", "state", value={})),
    "no groups": tensors(put("optimizer", "param_groups", value=[])),
    "no tables": tensors(put("optimizer", "tables", value=[])),
    "moments of another shape": tensors(
        lambda content: content["optimizer"]["tables"][0].update(exp_avg=torch.ones(2))
    ),
    "another lr": tensors(put("optimizer", "param_groups", 0, "lr", value=0.5)),
    **{f"epoch {value!r}": tensors(put("state", "epoch", value=value)) for value in (1, 3, -1, 10**9, "2")},
    **{f"step {value!r}": tensors(put("state", "step", value=value)) for value in (1, -1, 10**9, None)},
    "best of another epoch": tensors(put("state", "best_epoch", value=3)),
    "an order": tensors(put("state", "order", value=torch.arange(3))),
    "random numbers cut": tensors(lambda content: content.update(rng=content["rng"][:-8])),
}
FILES: dict[str, dict[str, Damage]] = {
    "config.yaml": {**ANY, **TEXT, **CONFIG},
    "environment.json": {**ANY, **TEXT, "packages": tree(put("packages", value=[]))},
    "history.jsonl": {**ANY, **TEXT, **HISTORY},
    "metrics.json": {**ANY, **TEXT, **METRICS},
    "seal.json": {**ANY, **TEXT, **SEAL},
    "test_users.parquet": {**ANY, **USERS},
    "test_positives.parquet": {**ANY, **POSITIVES},
    "beyond.json": {**ANY, **TEXT, **BEYOND},
    "best.pt": {**ANY, **CHECKPOINT, **BEST},
    "last.pt": {**ANY, **CHECKPOINT, **LAST},
}
READERS = {
    "config.yaml": ("evaluate", "report"),
    "metrics.json": ("report",),
    "seal.json": ("similar",),
    "best.pt": ("export", "report"),
    "last.pt": (),
}


# Campaigns ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs lie as they were made, in ``whole``; they are used in ``case``, where their dataset is, too."""
    place = tmp_path_factory.mktemp("runs") / "case"
    place.mkdir()
    make_runs(place)
    bm3("train", place / "shop", "--out", place / "popular", "--model", "popularity")
    shutil.copytree(place, place.with_name("whole"))
    return place


def restore(place: Path) -> None:
    shutil.rmtree(place)
    shutil.copytree(place.with_name("whole"), place)


Outcomes = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def outcomes(runs: Path) -> Outcomes:
    """``outcomes(use, file, harms)``: what becomes of a use of the runs after each harm to a file of theirs.

    It is right, or refused with a clear error; anything else fails.
    """
    before = {}
    for name, target in USES.items():
        restore(runs)
        before[name] = target.use(runs)

    def outcomes(use_: str, file: str, harms: Mapping[str, Damage], sealed: bool = True) -> dict[str, str]:
        results = {}
        for name, harm in harms.items():
            restore(runs)
            path = runs / file
            if not sealed and (seal := path.with_name("seal.json")) != path:
                seal.unlink(missing_ok=True)
            harm(path)
            results[name], message = use(USES[use_], runs, path, before[use_])
            assert results[name] in ("right", "clear error"), f"{use_} after {file}: {name}: {results[name]}: {message}"
        return results

    return outcomes


@pytest.mark.parametrize("file", FILES)
def test_files_of_a_finished_run(outcomes: Outcomes, file: str) -> None:
    counts: Counter[str] = Counter()
    for use_ in READERS.get(file, ("report",)):
        counts.update(outcomes(use_, f"run/{file}", FILES[file]).values())
    if file not in ("last.pt", "test_users.parquet", "test_positives.parquet", "beyond.json"):  # warned of, or not read
        assert counts["clear error"] >= len(FILES[file]) // 2


GOING_ON = {"config.yaml": CONFIG, "history.jsonl": HISTORY, "best.pt": BEST, "last.pt": {**CHECKPOINT, **LAST}}


@pytest.mark.parametrize("file", GOING_ON)
def test_files_of_a_run_that_goes_on(outcomes: Outcomes, file: str) -> None:
    outcomes("resume", f"begun/{file}", {"cut": ANY["cut"], "gone": ANY["gone"], **GOING_ON[file]})


OLD: dict[str, dict[str, Damage]] = {
    "config.yaml": {key: CONFIG[key] for key in ("sourse", "seed 'abc'", "another option", "patients", "laughs")},
    "metrics.json": {**{key: harm for key, harm in METRICS.items() if key != "another model"}, **TEXT},
    "history.jsonl": HISTORY,
    "test_users.parquet": USERS,
    "test_positives.parquet": POSITIVES,
    "beyond.json": BEYOND,
    "best.pt": {key: harm for key, harm in CHECKPOINT.items() if key not in ("a key too many", "schema 2")},
}


@pytest.mark.parametrize("file", OLD)
def test_runs_without_a_seal_are_held_against_themselves(outcomes: Outcomes, file: str) -> None:
    use_ = "recommend" if file in ("config.yaml", "best.pt") else "report"
    results = outcomes(use_, f"run/{file}", OLD[file], sealed=False)
    right = {name for name, result in results.items() if result == "right"}
    assert use_ == "report" or right <= {"patients"}


SWEEP: dict[str, Damage] = {"empty": ANY["empty"], "a folder": ANY["a folder"], "deep": TEXT["deep"]}
SWEEP_FILE: dict[str, Damage] = {
    **ANY,
    "deep": TEXT["deep"],
    "not UTF-8": TEXT["not UTF-8"],
    "laughs": CONFIG["laughs"],
    **{f"seeds {value!r}": tree(put("seeds", value=value)) for value in ("a", [-1], [0, 0], 10**30)},
    "no model": tree(put("settings", 0, "model", value="../..")),
    "sourse": raw(lambda content: content.replace(b"source:", b"sourse:")),
}


@pytest.mark.parametrize(
    ("file", "harms"),
    [("sweep.yaml", SWEEP_FILE), ("itemknn/seed-0/metrics.json", SWEEP), ("itemknn/seed-0/config.yaml", SWEEP)],
)
def test_files_of_a_sweep(outcomes: Outcomes, file: str, harms: dict[str, Damage]) -> None:
    outcomes("sweep", f"sweep/{file}", harms)


def test_one_damaged_run_does_not_take_the_others_down(runs: Path) -> None:
    restore(runs)
    shutil.copytree(runs / "run", runs / "many" / "good")
    for at, harm in enumerate([*ANY.values(), *METRICS.values()]):
        shutil.copytree(runs / "run", runs / "many" / f"bad-{at}")
        harm(runs / "many" / f"bad-{at}" / "metrics.json")
    bm3("report", runs / "many", "--out", runs / "report.html")
    told = json.loads((runs / "report.json").read_text())
    warnings = " ".join(told["warnings"])
    assert len(told["sections"]) == 1
    assert all(f"bad-{at}" in warnings for at in range(len(ANY) + len(METRICS)))
    shutil.rmtree(runs / "many" / "good")
    with pytest.raises(Exception, match="no finished run"):
        bm3("report", runs / "many", "--out", runs / "report.html")


# Checkpoints, bit by bit --------------------------------------------------------------------------------------------


def flipped(path: Path, read: Callable[[], Any], count: int, seed: int) -> Counter[str]:
    """Flip single bits, most of them in headers, and read: an error or the very same content."""
    random, whole, sound = Random(seed), path.read_bytes(), read()
    ends = [*range(min(2000, len(whole))), *range(max(0, len(whole) - 4000), len(whole))]
    counts: Counter[str] = Counter()
    for turn in range(count):
        at = random.choice(ends) if turn % 2 else random.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[at] ^= 1 << random.randrange(8)
        path.write_bytes(damaged)
        try:
            found = read()
        except RunError as error:
            counts["error" if path.name in str(error) else "an error that does not name the file"] += 1
        else:
            assert same(found, sound), f"bit flipped in byte {at}"
            counts["same"] += 1
    path.write_bytes(whole)
    assert set(counts) <= {"error", "same"}
    return counts


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


@pytest.mark.parametrize("file", ["best.pt", "last.pt"])
def test_no_flipped_bit_of_a_checkpoint_is_believed(runs: Path, file: str) -> None:
    restore(runs)
    (runs / "run" / "seal.json").unlink()
    files = RunFiles(runs / "run")
    counts = flipped(runs / "run" / file, lambda: (files.best if file == "best.pt" else files.last)(CPU), 150, 0)
    assert counts["error"] > 75


def test_no_flipped_bit_of_the_table_of_contents_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    torch.save({"schema": 1, "model": {"a": torch.randn(3, 2)}, "best": [torch.tensor(3), "text"]}, path)
    whole, sound = path.read_bytes(), load_checkpoint(path, CPU)
    record = whole.rindex(b"PK\1\2", 0, whole.rindex(b"/data/0"))
    for at in [*range(record, record + 66), *range(whole.rindex(b"PK\6\6"), len(whole))]:
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            with contextlib.suppress(RunError):
                assert same(load_checkpoint(path, CPU), sound), f"bit {bit} of byte {at}"


def test_runs_are_read_in_one_place() -> None:
    root = Path(bm3_pyg.__file__).parent
    reading = re.compile(r"json\.loads?\(|yaml\.(safe_)?load\(|torch\.load\(|read_parquet\(|pickle\.load")
    homes = {"train/plain.py", "train/checkpoint.py", "train/run_files.py"}
    others = {"train/official.py", "train/settings.py"}  # the authors' checkpoints; text from the command line
    for folder in ("train", "study", "cli", "eval", "serving"):
        for path in (root / folder).rglob("*.py"):
            name = path.relative_to(root).as_posix()
            found = [line for line in path.read_text().splitlines() if reading.search(line)]
            found = [line for line in found if "yaml.safe_load(yaml.safe_dump(" not in line]
            assert not found or name in homes | others, f"{name}: {found}"


@pytest.mark.long
def test_a_thousand_damages(runs: Path, outcomes: Outcomes) -> None:
    counts: Counter[str] = Counter()
    random = Random(1)
    for seed in range(1000):
        use_ = random.choice([*USES])
        folder = {"resume": "begun", "sweep": "sweep/itemknn/seed-0", "popular": "popular"}.get(use_, "run")
        names = sorted(path.name for path in (runs.with_name("whole") / folder).iterdir() if path.is_file())
        file, own = f"{folder}/{random.choice(names)}", Random(seed)
        counts.update(outcomes(use_, file, {f"seed {seed}": partial(damage, random=own)}, seed % 2 == 0).values())
    for name in ("best.pt", "last.pt"):
        restore(runs)
        (runs / "run" / "seal.json").unlink()
        files = RunFiles(runs / "run")
        counts += flipped(runs / "run" / name, lambda: (files.best if name == "best.pt" else files.last)(CPU), 1000, 1)  # noqa: B023
    print(dict(counts))
