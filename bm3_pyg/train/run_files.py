"""The one place where a run's files are read: each is whole, well-formed, sealed as the run left it, and agrees with
the others, or a :class:`~bm3_pyg.errors.RunError` names the file, what was found and what was expected.

A finished run ends with ``seal.json``, the SHA-256 of its other files. Runs older than that are held against
themselves: metrics.json against the per-user file and the history, best.pt against metrics.json.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bm3_pyg.data.content import file_sha256
from bm3_pyg.errors import ConfigError, RunError, one_line
from bm3_pyg.files import check_new_folder
from bm3_pyg.names import MODELS, SELECTION
from bm3_pyg.train import plain
from bm3_pyg.train.plain import (
    SCHEMA,
    Check,
    figures,
    integer,
    listing,
    mapping,
    mapping_of,
    maybe,
    number,
    string,
    text,
)
from bm3_pyg.train.settings import TrainConfig, check_options

if TYPE_CHECKING:
    import polars as pl
    import torch

SEAL_FILE = "seal.json"
TOLERANCE = 1e-6
"""Between metrics.json and the means of the per-user file: Recall was summed in float32 once."""
FIRST_TRAIN = (
    *("max_epochs", "min_epochs", "patience", "batch_size", "lr", "eval_every", "mask", "seed"),
    "checkpoint_seconds",
)
"""Training settings of the first runs; later ones have their default where they are missing."""


METRICS = mapping(
    {
        "schema": plain.exactly(SCHEMA),
        "dataset": string,
        "model": text,
        "seed": integer(0, 1 << 32),
        "best_epoch": integer(),
        "val": figures(SELECTION),
        "test": figures("recall@10", "recall@20", "ndcg@10", "ndcg@20"),
    }
)
RECORD = mapping(
    {"epoch": integer(), "loss": mapping_of(number()), "train_seconds": number(0)},
    {"val": figures(SELECTION), "eval_seconds": number(0), "peak_memory_mb": number(0)},
)
SEAL = mapping({"schema": plain.exactly(SCHEMA), "files": mapping_of(text)})
USERS = {"user": "Int64", "training_interactions": "Int64", "positives": "Int64"}
USERS |= dict.fromkeys(("recall@10", "recall@20", "ndcg@10", "ndcg@20"), "Float64")
POSITIVES = {"user": "Int64", "item": "Int64", "training_interactions": "Int64", "hit": "Boolean"}


@dataclass(frozen=True)
class RunFiles:
    """Readers of the files in the folder ``path``; each raises :class:`~bm3_pyg.errors.RunError`."""

    path: Path

    @cached_property
    def sealed(self) -> Mapping[str, str] | None:
        """SHA-256 of each file as the finished run left it; None for a run without seal."""
        path = self.path / SEAL_FILE
        if not os.path.lexists(path):
            return None
        seal = plain.parse_json(plain.to_text(plain.read_bytes(path), path), str(path))
        return dict(SEAL(seal, str(path))["files"])

    def config(self) -> dict[str, Any]:
        """config.yaml, with every training setting."""
        path = self.path / "config.yaml"
        if not os.path.lexists(path):
            raise RunError(f"{self.path}: not a run directory (no config.yaml)")
        config = dict(_config()(plain.parse_yaml(self._text("config.yaml", 1 << 20), str(path)), str(path)))
        where, model = "train", config["model"]
        try:
            config["train"] = asdict(TrainConfig(**config["train"]))
            where = "model: options"
            if model["name"] in MODELS:
                check_options(model["name"], model["options"])
        except ConfigError as error:
            raise RunError(f"{path}: {where}: {error}") from error
        return config

    def environment(self) -> dict[str, Any]:
        """environment.json: versions, device, commit, and under ``data`` the hashes of the dataset."""
        return check_environment(self._json("environment.json"), str(self.path / "environment.json"))

    def metrics(self) -> dict[str, Any]:
        """metrics.json."""
        return dict(METRICS(self._json("metrics.json"), str(self.path / "metrics.json")))

    def history(self, epochs: int | None = None) -> list[dict[str, Any]]:
        """The records of history.jsonl, or of its first ``epochs``: one for each epoch in turn, or one of epoch 0."""
        path = self.path / "history.jsonl"
        lines = self._text("history.jsonl", 1 << 30).split("\n")
        if epochs is None and lines.pop():
            raise RunError(f"{path}: line {len(lines) + 1} is cut")
        records: list[dict[str, Any]] = []
        for place, line in enumerate(lines[:epochs], 1):
            where = f"{path}: line {place}"
            record = RECORD(plain.parse_json(line, where), where)
            expected = 0 if place == 1 and record["epoch"] == 0 and len(lines) <= 2 else place
            if record["epoch"] != expected:
                raise RunError(f"{where}: epoch {record['epoch']}, expected {expected}")
            if records and record["loss"].keys() != records[0]["loss"].keys():
                raise RunError(f"{where}: losses {_names(record['loss'])}, expected {_names(records[0]['loss'])}")
            records.append(record)
        if epochs is not None and len(records) < epochs:
            raise RunError(f"{path}: {len(records)} epochs, expected the {epochs} that last.pt has seen")
        return records

    def users(self) -> pl.DataFrame:
        """test_users.parquet (see :func:`bm3_pyg.eval.users.user_metrics`)."""
        import polars as pl

        path = self.path / "test_users.parquet"
        table = self._table(path, USERS)
        figures = table.select(pl.col(pl.Float64))
        least, most = figures.min().row(0), figures.max().row(0)
        _require(path, min(least) >= 0 and max(most) <= 1, "metrics from 0 to 1")
        _require(path, table["user"].is_sorted() and table["user"].n_unique() == len(table), "each user once, in order")
        counts = table.select("training_interactions", "positives")
        _require(path, min(counts.min().row(0)) >= 1, "counts of at least 1")
        return table

    def positives(self) -> pl.DataFrame:
        """test_positives.parquet (see :func:`bm3_pyg.eval.users.positive_hits`)."""
        path = self.path / "test_positives.parquet"
        table = self._table(path, POSITIVES)
        _require(path, min(table.drop("hit").min().row(0)) >= 0, "no negative ids or counts")
        _require(path, table.select("user", "item").n_unique() == len(table), "each pair of user and item once")
        return table

    def beyond(self) -> dict[str, float]:
        """beyond.json (see :func:`bm3_pyg.eval.beyond.beyond_accuracy`)."""
        check = mapping(
            {"coverage@20": number(0, 1), "average_popularity@20": number(0)}, {"personalization@20": number(0, 1)}
        )
        return dict(check(self._json("beyond.json"), str(self.path / "beyond.json")))

    def best(self, device: torch.device) -> dict[str, Any]:
        """best.pt: ``model`` (finite weights), ``epoch``, ``fingerprint``, and since there is a seal ``settings``."""
        from bm3_pyg.train.checkpoint import read_best

        return read_best(self._checked("best.pt"), device)

    def last(self, device: torch.device) -> dict[str, Any]:
        """last.pt: ``model``, ``optimizer``, ``state`` and random states, each of the right kind."""
        from bm3_pyg.train.checkpoint import read_last

        return read_last(self._checked("last.pt"), device)

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, float]] | None:
        """Per-user values, positives and beyond.json, which agree; None where there are none."""
        names = ("test_users.parquet", "test_positives.parquet", "beyond.json")
        if not all(os.path.lexists(self.path / name) or name in (self.sealed or ()) for name in names):
            return None
        users, positives, beyond = self.users(), self.positives(), self.beyond()
        counts = positives.group_by("user").len().sort("user")
        _require(
            self.path / "test_positives.parquet",
            counts["user"].equals(users["user"]) and bool((counts["len"] == users["positives"]).all()),
            "as many positives of each user as test_users.parquet says",
        )
        return users, positives, beyond

    def result(self) -> Result:
        """All but the checkpoints, for a finished run; what they say of each other agrees."""
        config, metrics, history = self.config(), self.metrics(), self.history()
        path = self.path / "metrics.json"
        for key, expected in (
            ("dataset", config["dataset"]["name"]),
            ("model", config["model"]["name"]),
            ("seed", config["train"]["seed"]),
        ):
            if metrics[key] != expected:
                raise RunError(f"{path}: {key}: got {metrics[key]!r}, expected {expected!r} as in config.yaml")
        record = next((record for record in history if record["epoch"] == metrics["best_epoch"]), None)
        if record is None:
            raise RunError(f"{path}: best_epoch: got {metrics['best_epoch']}, which history.jsonl does not have")
        if record.get("val", {}) != metrics["val"]:
            raise RunError(f"{path}: val: not the figures of epoch {metrics['best_epoch']} in history.jsonl")
        if os.path.lexists(self.path / "best.pt"):  # a report can be made anew after weights were deleted
            self.check_best()
        environment = self.environment()
        if self.sealed is None and (tables := self.tables()) is not None:
            self.check_test(metrics["test"], tables[0], environment)
        return Result(config, environment, metrics, history)

    def check_best(self) -> None:
        """best.pt is the one that metrics.json speaks of: as it was sealed, or of the same epoch."""
        if "best.pt" in (self.sealed or ()):
            self._checked("best.pt")
        else:
            import torch

            self.check_epoch(self.best(torch.device("cpu"))["epoch"])

    def check_epoch(self, epoch: int) -> None:
        """A finished run was tested with the weights of ``epoch``."""
        if epoch != (tested := self.metrics()["best_epoch"]):
            raise RunError(
                f"{self.path / 'best.pt'}: of epoch {epoch}, expected epoch {tested} as in metrics.json; if the run "
                "was extended, resume it to its end"
            )

    def check_test(self, test: Mapping[str, float], users: pl.DataFrame, environment: Mapping[str, Any]) -> None:
        """The test figures are means of the per-user file, for which older runs ranked anew: a GPU need not repeat."""
        import polars as pl

        tolerance = TOLERANCE if environment.get("device") in ("cpu", "x86_64", "aarch64", "arm64", "arm") else 1e-3
        means = users.select(pl.col(pl.Float64).mean()).row(0, named=True)
        for name, mean in means.items():
            if name in test and abs(test[name] - mean) > tolerance:
                raise RunError(
                    f"{self.path / 'metrics.json'}: test: {name}: got {test[name]}, expected {mean} as in "
                    "test_users.parquet"
                )

    def _checked(self, name: str) -> Path:
        """The path of a large file, whose seal has been checked."""
        path = self.path / name
        plain.require_file(path)
        if self.sealed is not None and name in self.sealed:
            self._check_seal(name, file_sha256(path))
        return path

    def _read(self, name: str, limit: int = plain.LIMIT) -> bytes:
        raw = plain.read_bytes(self.path / name, limit)
        if self.sealed is not None and name in self.sealed:
            self._check_seal(name, hashlib.sha256(raw).hexdigest())
        return raw

    def _check_seal(self, name: str, digest: str) -> None:
        assert self.sealed is not None
        if digest != self.sealed[name]:
            moved = "; for a dataset that has moved use --data" if name == "config.yaml" else ""
            raise RunError(
                f"{self.path / name}: changed since the run ended (its SHA-256 is not that in {SEAL_FILE}), expected "
                f"the file as it was{moved}; remove {SEAL_FILE} to have it taken as it is"
            )

    def _text(self, name: str, limit: int = plain.LIMIT) -> str:
        return plain.to_text(self._read(name, limit), self.path / name)

    def _json(self, name: str) -> Any:
        return plain.parse_json(self._text(name), str(self.path / name))

    def _table(self, path: Path, columns: Mapping[str, str]) -> pl.DataFrame:
        import polars as pl

        from bm3_pyg.data.table import parse_parquet

        raw = self._read(path.name, 1 << 34)
        try:
            table = pl.read_parquet(io.BytesIO(raw)) if self.sealed is not None else parse_parquet(raw)
        except (Exception, pl.exceptions.PanicException) as error:  # a damaged file can raise almost anything
            raise RunError(f"{path}: not a whole Parquet file ({one_line(error)[:200]})") from None
        schema = {name: str(dtype) for name, dtype in table.schema.items()}
        if schema != columns:
            raise RunError(f"{path}: columns {_pairs(schema)}, expected {_pairs(columns)}")
        _require(path, len(table) > 0, "at least one row")
        _require(path, sum(table.null_count().row(0)) == 0, "no empty cells")
        _require(path, not any(table[name].is_nan().any() for name in table.columns if "@" in name), "numbers")
        return table


@dataclass(frozen=True)
class Result:
    """What a finished run says of itself."""

    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, Any]
    history: list[dict[str, Any]]


def check_new_run(folder: str | Path) -> None:
    """Raise :class:`~bm3_pyg.errors.RunError` unless ``folder`` is one to come or an empty one."""
    check_new_folder(folder, advice="; resume it (--resume), or choose another folder")


def is_run(folder: Path) -> bool:
    """Whether there is a run in ``folder``, sound or not."""
    return any(os.path.lexists(folder / name) for name in ("config.yaml", "metrics.json", SEAL_FILE))


def is_finished(folder: Path) -> bool:
    """Whether the run in ``folder`` has come to its end."""
    return os.path.lexists(folder / "metrics.json")


def read_config(run: Path) -> dict[str, Any]:
    """``config.yaml`` of a run directory, see :meth:`RunFiles.config`."""
    return RunFiles(run).config()


def check_environment(value: Any, where: str) -> dict[str, Any]:
    """``value``, if it is what :func:`bm3_pyg.train.environment.environment` tells with the dataset's hashes."""
    data = {"fingerprint": text, "files": mapping_of(string), "counts": mapping_of(integer())}
    inner = {
        "packages": mapping_of(text),
        "command": listing(string),
        "data": mapping({}, data),
        "seconds": mapping_of(number(0)),
        "seconds_beside": mapping_of(number(0)),
        "resumed": listing(check_environment),
    }
    mapping_of(plain.anything)(value, where)
    return {key: inner.get(key, plain.scalar)(own, f"{where}: {key}") for key, own in value.items()}


def _config() -> Check:
    dataset = {"name": string, "source": maybe(source()), "fingerprint": text, "modalities": mapping_of(integer())}
    model = {"name": _name, "options": mapping_of(plain.option)}
    later = {field.name: plain.scalar for field in fields(TrainConfig) if field.name not in FIRST_TRAIN}
    train = mapping(dict.fromkeys(FIRST_TRAIN, plain.scalar), later)
    sections = {"dataset": mapping(dataset), "model": mapping(model), "train": train}
    return mapping({"schema": plain.exactly(SCHEMA), **sections})


def source() -> Check:
    """Arguments of :func:`bm3_pyg.load_dataset`, as a file names them."""
    from bm3_pyg.data import load_dataset

    parameters = inspect.signature(load_dataset).parameters.values()
    checks = {parameter.name: _kind(str(parameter.annotation)) for parameter in parameters}
    return mapping({"source": text}, {name: check for name, check in checks.items() if name != "source"})


def _name(value: Any, where: str) -> Any:
    """The name of a model, or of a class of one's own: ``module:Class``, or as :func:`bm3_pyg.models.name_of` says."""
    return (
        value if re.fullmatch(r"[\w.<>]+(:\w+)?", text(value, where)) else plain.fault(where, value, "a model's name")
    )


def _kind(annotation: str) -> Check:
    """What a value of this type looks like in YAML."""
    kinds = {"Mapping": mapping_of(text), "Sequence": listing(text), "str": text, "int": integer()}
    check = next((check for name, check in kinds.items() if name in annotation), plain.option)
    return maybe(check) if "None" in annotation else check


def _require(path: Path, held: bool, expected: str) -> None:
    if not held:
        raise RunError(f"{path}: damaged, expected {expected}")


def _names(losses: Mapping[str, Any]) -> str:
    return ", ".join(losses)[:100] or "none"


def _pairs(schema: Mapping[str, str]) -> str:
    return (", ".join(f"{name} {kind}" for name, kind in schema.items()) or "none")[:300]
