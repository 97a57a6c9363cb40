"""What the fuzzer damages and uses: each kind of file that is read, and what counts as right after damage."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import shutil
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from bm3_pyg import load_dataset
from bm3_pyg.cli import main
from bm3_pyg.data import fingerprint
from bm3_pyg.data.amazon.images import read_images
from bm3_pyg.data.amazon.meta import read_texts
from bm3_pyg.data.amazon.reviews import read_interactions
from bm3_pyg.data.archive import extract
from bm3_pyg.data.download_folder import Remote, download
from bm3_pyg.names import MODELS, settings_of, training_options
from bm3_pyg.study.report import build_report
from bm3_pyg.study.search import Setting, Sweep
from bm3_pyg.study.sweep import train_one
from bm3_pyg.train.official import read_official_checkpoint

USERS, ITEMS, EACH = 12, 9, 6


class Refused(Exception):
    """A command that exited with 2, and what it printed on standard error."""


class Target(NamedTuple):
    """``use`` what lies in a folder, one of ``files`` being damaged: refused, or ``right(folder, before, after)``."""

    folder: str
    files: tuple[str, ...]
    use: Callable[[Path], Any]
    right: Callable[[Path, Any, Any], bool] = lambda folder, before, after: bool(before == after)


def bm3(*arguments: str | Path) -> str:
    """What a command prints on standard output; :class:`Refused` where it exits with 2."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(one) for one in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    if code == 2:
        raise Refused(
            "\n".join(line for line in err.getvalue().split("\n") if line.startswith("bm3")) or err.getvalue()
        )
    if code:
        raise AssertionError(f"exit code {code}")
    return out.getvalue()


# Tables -----------------------------------------------------------------------------------------------------------

ROWS = [
    (f"u{u}", f"i{(u * 5 + 2 * j) % ITEMS}", 1_700_000_000 + 60 * u + j, 1 + j % 5)
    for u in range(USERS)
    for j in range(EACH)
]


def make_tables(folder: Path) -> None:
    names = ["user", "item", "time", "rating", "comment"]
    rows = [(*row, f"good, {at}") for at, row in enumerate(ROWS)]
    text = ",".join(names) + "\n" + "".join(f'{u},{i},{t},{r},"{c}"\n' for u, i, t, r, c in rows)
    (folder / "clicks.csv").write_text(text)
    (folder / "clicks.csv.gz").write_bytes(gzip.compress(text.encode()))
    tabs = "\t".join(names) + "\n" + "".join(f"{u}\t{i}\t{t}\t{r}\tfine {t}\n" for u, i, t, r, _ in rows)
    (folder / "clicks.tsv").write_text(tabs)
    (folder / "clicks.jsonl").write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    pl.DataFrame(rows, schema=names, orient="row").write_parquet(folder / "clicks.parquet")
    numbers = np.random.default_rng(0).standard_normal((ITEMS, 3)).round(3)
    lines = [f"i{at},{','.join(map(str, row))}\n" for at, row in enumerate(numbers.tolist())]
    (folder / "image.csv").write_text("item,a,b,c\n" + "".join(lines))
    np.save(folder / "text.npy", numbers.astype(np.float32))
    (folder / "items.txt").write_text("".join(f"i{at}\n" for at in range(ITEMS)))
    bm3(
        "data",
        "prepare",
        "--interactions",
        folder / "clicks.tsv",
        "--text-encoder",
        "none",
        "--out",
        folder / "prepared",
    )


def make_mmrec(folder: Path) -> None:
    rows = [
        f"{u}\t{(u * 5 + 2 * j) % ITEMS}\t{0 if j < EACH - 2 else j - EACH + 3}\n"
        for u in range(USERS)
        for j in range(EACH)
    ]
    (folder / "shop.inter").write_text("userID\titemID\tx_label\n" + "".join(rows))
    for name, column, count in (("u_id_mapping.csv", "userID", USERS), ("i_id_mapping.csv", "itemID", ITEMS)):
        (folder / name).write_text(f"own\t{column}\n" + "".join(f"{column[0]}{at}\t{at}\n" for at in range(count)))
    np.save(folder / "image_feat.npy", np.random.default_rng(0).standard_normal((ITEMS, 4), dtype=np.float32))
    np.save(folder / "image_missing.npy", np.arange(ITEMS) == 3)


def rows_read(**options: Any) -> Callable[[Path], dict[str, int]]:
    """Interactions read and merged, users and items, of the table ``source`` in a folder."""

    def use(folder: Path) -> dict[str, int]:
        beside = {"features", "items"} & options.keys()
        given = dict(options)
        for name in beside:
            own = given[name]
            given[name] = {key: folder / file for key, file in own.items()} if isinstance(own, dict) else folder / own
        data = load_dataset(folder / given.pop("source"), **given)
        edges = data["user", "rates", "item"]
        found = {
            "rows": sum(edges[name].size(1) for name in ("edge_index", "val_edge_index", "test_edge_index")),
            "merged": sum(number(r"([\d,]+) repeated interactions were merged", note) for note in data.notes),
            "items": data["item"].num_nodes,
            "users": data["user"].num_nodes,
        }
        return found | {name: fingerprint_of(data["item"][name]) for name in ("image", "text") if name in data["item"]}

    return use


def fingerprint_of(values: torch.Tensor) -> bytes:
    return values.numpy().tobytes()


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1].replace(",", "")) if found else 0


def lines_of(path: Path) -> int:
    """Lines that are not blank, gzipped or not; what a row each must come of."""
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    return sum(bool(line.strip(b" \t\r")) for line in raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"))


def no_row_lost(name: str, header: int = 1) -> Callable[[Path, Any, Any], bool]:
    """A row for each line; or every row that there was, where one has a quoted field that runs over a line end."""

    def right(folder: Path, before: Any, after: Any) -> bool:
        rows, lines = after["rows"] + after["merged"], lines_of(folder / name) - header
        return bool(rows == lines or before["rows"] <= rows < lines)

    return right


def parquet_right(folder: Path, before: Any, after: Any) -> bool:
    return bool(after["rows"] + after["merged"] == pl.read_parquet(folder / "clicks.parquet").height)


def array_right(folder: Path, before: Any, after: Any) -> bool:
    """What NumPy's own reader finds in a file that is exactly as long as it says."""
    for name, file in (("image", "image_feat.npy"), ("text", "text.npy")):
        if (folder / file).is_file() and name in after:
            array = np.load(folder / file)
            with (folder / file).open("rb") as opened:
                version = np.lib.format.read_magic(opened)
                getattr(np.lib.format, f"read_array_header_{version[0]}_0")(opened)
                whole = (folder / file).stat().st_size == opened.tell() + array.nbytes
            if not whole or after[name] != np.ascontiguousarray(array, np.float32).tobytes():
                return False
    return all(after[key] == before[key] for key in ("rows", "merged", "items", "users"))


def table_of_features_right(folder: Path, before: Any, after: Any) -> bool:
    """A number may have become another one; interactions and items stay, and nothing was left out without a note."""
    return all(after[key] == before[key] for key in ("rows", "merged", "items", "users"))


def mapping_right(folder: Path, before: Any, after: Any) -> bool:
    """An id for each line of a mapping; without one the indices are the ids."""
    if after["rows"] != before["rows"]:
        return False
    paths = {"users": folder / "u_id_mapping.csv", "items": folder / "i_id_mapping.csv"}
    return all(after[kind] == (lines_of(path) - 1 if path.exists() else before[kind]) for kind, path in paths.items())


# Amazon -----------------------------------------------------------------------------------------------------------

WANTED = pl.Series([f"B00000000{at}" for at in range(ITEMS)])


def make_amazon(folder: Path) -> None:
    rows = [(user, f"B00000000{item[1:]}", time, rating) for user, item, time, rating in ROWS]
    reviews = [
        json.dumps({"reviewerID": u, "asin": i, "reviewText": 'a "b"\n', "overall": float(r), "unixReviewTime": t})
        for u, i, t, r in rows
    ]
    (folder / "reviews_Baby_5.json.gz").write_bytes(gzip.compress("".join(f"{one}\n" for one in reviews).encode()))
    (folder / "ratings_Baby.csv").write_text("".join(f"{u},{i},{float(r)},{t}\n" for u, i, t, r in rows))
    meta = [repr({"asin": i, "title": f"t {i}", "brand": "b", "categories": [["x", i]]}) for i in WANTED]
    (folder / "meta_Baby.json.gz").write_bytes(gzip.compress("".join(f"{one}\n" for one in meta).encode()))
    values = np.random.default_rng(0).standard_normal((ITEMS, 4)).astype("<f4")
    (folder / "image_features_Baby.b").write_bytes(
        b"".join(i.encode() + row.tobytes() for i, row in zip(WANTED, values, strict=True))
    )


def ratings(name: str) -> Target:
    def use(folder: Path) -> tuple[int, int]:
        frame, notes = read_interactions(folder / name)
        return frame.height, sum(number(r"([\d,]+) of [\d,]+ lines malformed", note) for note in notes)

    return Target("amazon", (name,), use, lambda folder, before, after: sum(after) == lines_of(folder / name))


def texts_right(folder: Path, before: Any, after: Any) -> bool:
    """No more texts differ than lines do."""
    lines = gzip.decompress((folder / "meta_Baby.json.gz").read_bytes()).split(b"\n")
    whole = sum(
        repr({"asin": i, "title": f"t {i}", "brand": "b", "categories": [["x", i]]}).encode() in lines for i in WANTED
    )
    changed = sum(one != other for one, other in zip(before, after, strict=True))
    return int(changed) <= ITEMS - whole + len(lines) - whole - 1


def images_right(folder: Path, before: Any, after: Any) -> bool:
    """The first finite record of each item, as read by hand."""
    raw = (folder / "image_features_Baby.b").read_bytes()
    found: dict[bytes, Any] = {}
    for at in range(0, len(raw), 26):
        values = np.frombuffer(raw[at + 10 : at + 26], "<f4")
        if np.isfinite(values).all():
            found.setdefault(raw[at : at + 10], values)
    none = np.zeros(4, np.float32)
    return list(after) == [found.get(item.encode(), none).tobytes() for item in WANTED]


# Archives, downloads, cache, checkpoints -----------------------------------------------------------------------------


def make_files(folder: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / name).write_text(name * 300)
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("a.txt", "b.txt", "c.txt"):
            packed.write(folder / name, f"in/{name}")
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as tar:  # type: ignore[call-overload]
            for file in ("a.txt", "b.txt", "c.txt"):
                tar.add(folder / file, f"in/{file}")
    (folder / "raw").mkdir()
    (folder / "raw" / "a.bin").write_bytes(b"content" * 9)
    download([REMOTE], folder / "raw", offline=True)
    make_official(folder / "official.pth")


REMOTE = Remote("a.bin", "http://127.0.0.1:9/a.bin")


def make_official(path: Path) -> None:
    module, package = types.ModuleType("utils.configurator"), types.ModuleType("utils")
    config = type("Config", (), {"__module__": "utils.configurator"})
    module.Config = config  # type: ignore[attr-defined]
    sys.modules |= {"utils": package, "utils.configurator": module}
    own: Any = config()
    own.final_config_dict = {
        "embedding_size": 4,
        "n_layers": 2,
        "dropout": 0.3,
        "topk": [5],
        "device": torch.device("cpu"),
    }
    weights = {"user_embedding.weight": torch.randn(USERS, 4), "item_id_embedding.weight": torch.randn(ITEMS, 4)}
    torch.save({"config": own, "epoch": 3, "best_valid_score": np.float64(0.1), "state_dict": weights}, path)
    for name in ("utils", "utils.configurator"):
        sys.modules.pop(name)


def unpacked(name: str) -> Callable[[Path], dict[str, bytes]]:
    def use(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in extract(folder / name, folder / "out")}

    return use


def sizes_right(folder: Path, before: Any, after: Any) -> bool:
    """A tar has no checksum of its content: nothing is missing, and each file is as long as it was."""
    return {name: len(raw) for name, raw in before.items()} == {name: len(raw) for name, raw in after.items()}


def downloaded(folder: Path) -> bytes:
    return download([REMOTE], folder / "raw", offline=True)[0].read_bytes()


def official(folder: Path) -> Any:
    weights, options = read_official_checkpoint(folder / "official.pth")
    return {name: fingerprint_of(value) for name, value in weights.items()}, options


def cached_data(folder: Path) -> Any:
    data = load_dataset(folder / "clicks.tsv", features={"image": folder / "image.csv"})
    ids = [data[kind].raw_id.tolist() for kind in ("user", "item")]
    return fingerprint(data), ids, data.name, sorted(data.files.items()), data.notes


# Runs -------------------------------------------------------------------------------------------------------------

SMALL = ("embedding_dim=4", "max_epochs=4", "batch_size=16", "checkpoint_seconds=0")


def make_runs(folder: Path) -> None:
    (folder / "shop").mkdir()
    make_mmrec(folder / "shop")
    bm3("train", folder / "shop", "--out", folder / "run", "--set", *SMALL)
    bm3("train", folder / "shop", "--out", folder / "begun", "--set", *SMALL[:1], "max_epochs=2", *SMALL[2:])
    for name in ("metrics.json", "seal.json"):
        (folder / "begun" / name).unlink()
    (folder / "settings").mkdir()
    for name in MODELS:
        options = {option.name: option.default for option in (*settings_of(name), *training_options())}
        options |= {"max_epochs": "2", "patience": "1", "batch_size": "64"}
        (folder / "settings" / f"{name}.json").write_text(json.dumps(options))
    shutil.copytree(folder / "settings", folder / "whole")
    shutil.copytree(folder / "run", folder / "old")
    (folder / "old" / "seal.json").unlink()
    best = torch.load(folder / "old" / "best.pt", weights_only=True)
    torch.save({key: value for key, value in best.items() if key != "settings"}, folder / "old" / "best.pt")
    sweep = Sweep({"source": str(folder / "shop")}, (Setting("popularity"), Setting("itemknn")), (0,))
    for setting in sweep.settings:
        train_one(sweep, folder / "sweep", setting, 0)  # in this process; what is finished is not run again
    swept(folder)
    (folder / "users.txt").write_text("".join(f"u{at}\n" for at in range(0, USERS, 2)))
    (folder / "items.txt").write_text("".join(f"i{at}\n" for at in range(0, ITEMS, 2)))
    (folder / "new.csv").write_text("user,item\n" + "".join(f"n{at // 3},i{at % ITEMS}\n" for at in range(15)))


def figures(run: str) -> Callable[[Path], Any]:
    return lambda folder: json.loads(bm3("evaluate", folder / run, "--json"))


def lists(*options: str) -> Callable[[Path], str]:
    def use(folder: Path) -> str:
        paths = [folder / option if option.endswith((".txt", ".csv")) else option for option in options]
        bm3("recommend", folder / "run", "--k", "4", "--out", folder / "lists.csv", *paths)
        return (folder / "lists.csv").read_text(encoding="utf-8")

    return use


def known_users_right(folder: Path, before: Any, after: Any) -> bool:
    """Lists for every id that stands in a line of its own, and for nobody else; each as it was, but for rounding."""
    old, new = ({line.rpartition(",")[0] for line in text.splitlines()[1:]} for text in (before, after))
    old_users, new_users = ({line.split(",")[0] for line in lines} for lines in (old, new))
    asked = {line.rstrip("\r") for line in (folder / "users.txt").read_text("utf-8-sig").split("\n")}
    known = {f"u{at}" for at in range(USERS)}
    if not asked & known <= new_users <= known:
        return False
    return all(line in old for line in new if line.split(",")[0] in old_users)


def new_users_right(folder: Path, before: Any, after: Any) -> bool:
    """No list for users who are not in the table."""
    text = (folder / "new.csv").read_text("utf-8", "replace")
    return all(line.split(",")[0].strip('"').replace('""', '"')[:20] in text for line in after.splitlines()[1:])


def ids_in(path: Path) -> set[str]:
    return {line.rstrip("\r") for line in path.read_text("utf-8-sig").split("\n")} & {f"i{at}" for at in range(ITEMS)}


def candidates_right(folder: Path, before: Any, after: Any) -> bool:
    """Lists of the candidates that stand in a line of their own; a stripped id may be one too."""
    offered = {line.split(",")[2] for line in after.splitlines()[1:]}
    stripped = {line.strip() for line in (folder / "items.txt").read_text("utf-8-sig").split("\n")}
    return offered <= ids_in(folder / "items.txt") | stripped


def similar(folder: Path) -> str:
    bm3("similar", folder / "run", "--items", folder / "items.txt", "--k", "3", "--out", folder / "similar.csv")
    return (folder / "similar.csv").read_text(encoding="utf-8")


def similar_right(folder: Path, before: Any, after: Any) -> bool:
    """Neighbours of every item that stands in a line of its own."""
    return ids_in(folder / "items.txt") <= {line.split(",")[0] for line in after.splitlines()[1:]}


def resumed(folder: Path) -> str:
    """A run of two epochs goes on to four, and is then the run of four."""
    bm3("train", "--out", folder / "begun", "--resume", "--set", "max_epochs=4")
    return (folder / "begun" / "metrics.json").read_text()


def report(folder: Path, run: str = "run") -> Any:
    """Figures of the report on one run, or the warnings in place of them."""
    told = build_report([folder / run])
    rows = [(row.label, row.seeds, row.test, row.val) for section in told.sections for row in section.rows]
    warnings = [*told.warnings, *(warning for section in told.sections for warning in section.warnings)]
    strata = [stratum for section in told.sections for stratum in section.strata]
    return rows, strata, [section.beyond for section in told.sections], warnings


def report_right(folder: Path, before: Any, after: Any) -> bool:
    """The same rows; what is kept beside them the same, or missing with a warning that was not there before."""
    return before[0] == after[0] and (before[1:3] == after[1:3] or len(after[3]) > len(before[3]))


def old_report_right(folder: Path, before: Any, after: Any) -> bool:
    """As for other runs, but for beyond.json: nothing in a run without a seal says what was in it."""
    return report_right(folder, [*before[:2], None, before[3]], [*after[:2], None, after[3]])


def trained(folder: Path) -> list[float]:
    """The figures of a run of every model with its settings."""
    found = []
    for path in sorted((folder / "settings").iterdir()):
        settings = json.loads(path.read_text())
        if settings == json.loads((folder / "whole" / path.name).read_text()):
            continue
        given = [f"{name}={value}" for name, value in settings.items() if value is not None]
        bm3("train", folder / "shop", "--out", folder / "new", "--model", path.stem, "--set", *given)
        metrics = json.loads((folder / "new" / "metrics.json").read_text())
        found += [*metrics["val"].values(), *metrics["test"].values()]
    return found


def swept(folder: Path) -> Any:
    given = ("--seeds", "1", "--models", "popularity", "itemknn", "--json")
    told = json.loads(bm3("sweep", folder / "shop", "--out", folder / "sweep", *given))
    return {run["setting"]: (run.get("val"), run.get("test"), run.get("error")) for run in told["runs"]}


def sweep_right(folder: Path, before: Any, after: Any) -> bool:
    """Each run as it was, or without figures and with a reason that names it."""
    return before.keys() == after.keys() and all(
        found == before[name] or (not found[0] and not found[1] and name in str(found[2]))
        for name, found in after.items()
    )


MAKERS = {"tables": make_tables, "mmrec": make_mmrec, "amazon": make_amazon, "files": make_files, "runs": make_runs}
RUN = (
    "config.yaml",
    "environment.json",
    "history.jsonl",
    "metrics.json",
    "seal.json",
    "best.pt",
    "last.pt",
    "test_users.parquet",
    "test_positives.parquet",
    "beyond.json",
)
COLUMNS = {"time": "time", "rating": "rating"}
TARGETS = {
    "csv": Target("tables", ("clicks.csv",), rows_read(source="clicks.csv", **COLUMNS), no_row_lost("clicks.csv")),
    "tsv": Target("tables", ("clicks.tsv",), rows_read(source="clicks.tsv", **COLUMNS), no_row_lost("clicks.tsv")),
    "gzip": Target(
        "tables", ("clicks.csv.gz",), rows_read(source="clicks.csv.gz", split="random"), no_row_lost("clicks.csv.gz")
    ),
    "jsonl": Target(
        "tables", ("clicks.jsonl",), rows_read(source="clicks.jsonl", **COLUMNS), no_row_lost("clicks.jsonl", 0)
    ),
    "parquet": Target("tables", ("clicks.parquet",), rows_read(source="clicks.parquet", **COLUMNS), parquet_right),
    "features": Target(
        "tables",
        ("image.csv",),
        rows_read(source="clicks.tsv", features={"image": "image.csv"}),
        table_of_features_right,
    ),
    "array": Target(
        "tables",
        ("text.npy",),
        rows_read(source="clicks.tsv", features={"text": "text.npy"}, items="items.txt"),
        array_right,
    ),
    "items": Target(
        "tables",
        ("items.txt",),
        rows_read(source="clicks.tsv", items="items.txt"),
        lambda folder, before, after: after["items"] == lines_of(folder / "items.txt"),
    ),
    "prepared": Target(
        "tables",
        ("prepared/card.json",),
        lambda folder: bm3(
            "data",
            "prepare",
            "--interactions",
            folder / "clicks.tsv",
            "--text-encoder",
            "none",
            "--out",
            folder / "prepared",
        ),
    ),
    "cache": Target("tables", ("cache/*/*",), cached_data),
    "inter": Target("mmrec", ("shop.inter",), rows_read(source=""), no_row_lost("shop.inter")),
    "mapping": Target("mmrec", ("?_id_mapping.csv",), rows_read(source=""), mapping_right),
    "mmrec-arrays": Target("mmrec", ("*.npy",), rows_read(source=""), array_right),
    "reviews": ratings("reviews_Baby_5.json.gz"),
    "ratings": ratings("ratings_Baby.csv"),
    "meta": Target(
        "amazon",
        ("meta_Baby.json.gz",),
        lambda folder: read_texts(folder / "meta_Baby.json.gz", WANTED)[0],
        texts_right,
    ),
    "images": Target(
        "amazon",
        ("image_features_Baby.b",),
        lambda folder: [row.tobytes() for row in read_images(folder / "image_features_Baby.b", WANTED, dim=4)[0]],
        images_right,
    ),
    "zip": Target("files", ("a.zip",), unpacked("a.zip")),
    "tar": Target("files", ("a.tar",), unpacked("a.tar"), sizes_right),
    "tar.gz": Target("files", ("a.tar.gz",), unpacked("a.tar.gz"), sizes_right),
    "downloads": Target("files", ("raw/*",), downloaded),
    "official": Target("files", ("official.pth",), official),
    "evaluate": Target("runs", tuple(f"run/{name}" for name in RUN), figures("run")),
    "old-evaluate": Target("runs", tuple(f"old/{name}" for name in RUN), figures("old")),
    "old-report": Target("runs", tuple(f"old/{name}" for name in RUN), partial(report, run="old"), old_report_right),
    "similar": Target("runs", ("items.txt",), similar, similar_right),
    "candidates": Target("runs", ("items.txt",), lists("--candidates", "items.txt"), candidates_right),
    "recommend": Target("runs", ("run/config.yaml", "run/best.pt"), lists()),
    "users": Target("runs", ("users.txt",), lists("--users", "users.txt"), known_users_right),
    "new-users": Target("runs", ("new.csv",), lists("--new-users", "new.csv"), new_users_right),
    "report": Target("runs", tuple(f"run/{name}" for name in RUN), report, report_right),
    "resume": Target("runs", tuple(f"begun/{name}" for name in RUN), resumed),
    "settings": Target("runs", ("settings/*",), trained, lambda folder, before, after: all(0 <= x <= 1 for x in after)),
    "sweep": Target("runs", ("sweep/*", "sweep/*/seed-0/*"), swept, sweep_right),
}
