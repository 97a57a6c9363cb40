"""Run folders made by hand, with per-user values, so that reports of them take no training."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from bm3_pyg.study.search import Setting, Sweep
from bm3_pyg.train.settings import TrainConfig

USERS = 60
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


@pytest.fixture
def make_run() -> Callable[..., Path]:
    """Writes a finished run into a folder; ``shift`` raises every user's values, ``val`` is validation Recall@20.

    One that is not ``sealed`` can be changed; each of its tables is read in a process of its own, which takes time.
    """

    def make(
        folder: Path,
        model: str = "bm3",
        seed: int = 0,
        *,
        options: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
        shift: float = 0.0,
        val: float = 0.25,
        dataset: str = "shop",
        fingerprint: str = "f" * 64,
        environment: dict[str, Any] | None = None,
        corrupt: str | None = None,
        count: int = USERS,
        sealed: bool = True,
    ) -> Path:
        folder.mkdir(parents=True)
        easy = np.random.default_rng(7).random(count) / 2
        noise = np.random.default_rng([seed, zlib.crc32(folder.name.encode())]).random((count, 4)) / 50
        values = 0.15 + easy[:, None] + noise + shift
        table = {"user": np.arange(count), "training_interactions": np.arange(count) % 7 + 1, "positives": [1] * count}
        table.update({name: values[:, at] for at, name in enumerate(METRICS)})
        users = pl.DataFrame(table)
        users.write_parquet(folder / "test_users.parquet")
        hits = {"user": np.arange(count), "item": np.arange(count), "training_interactions": np.arange(count) % 10}
        pl.DataFrame({**hits, "hit": values[:, 1] > 0.45}).write_parquet(folder / "test_positives.parquet")
        (folder / "beyond.json").write_text(json.dumps({"coverage@20": 0.5 + seed / 10, "average_popularity@20": 4.5}))
        config = {
            "schema": 1,
            "dataset": {
                "name": dataset,
                "source": {"source": f"/machine/{dataset}", **({} if corrupt is None else {"corrupt": corrupt})},
                "fingerprint": fingerprint,
                "modalities": {"image": 5, "text": 4},
            },
            "model": {"name": model, "options": options or {}},
            "train": {**asdict(TrainConfig()), "seed": seed, **(train or {})},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        found = {"python": "3.11", "packages": {"numpy": "2"}, "commit": "a" * 40, "device": "cpu", "threads": 1}
        found["data"] = {"fingerprint": fingerprint, "files": {f"{dataset}.inter": "0" * 64}}
        (folder / "environment.json").write_text(json.dumps({**found, **(environment or {})}))
        trained = model != "popularity"
        best = 2 if trained else 0
        records = [
            {
                "epoch": epoch,
                "loss": {"total": 3.0 - epoch} if trained else {},
                "train_seconds": float(epoch),
                "val": {"recall@20": val - abs(epoch - best) / 100},
                "eval_seconds": 0.5,
                "peak_memory_mb": 100.0 + seed,
            }
            for epoch in ((1, 2, 3) if trained else (0,))
        ]
        (folder / "history.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        test = {name: float(users[name].mean()) for name in METRICS}  # type: ignore[arg-type]
        metrics = {"schema": 1, "dataset": dataset, "model": model, "seed": seed, "best_epoch": best}
        (folder / "metrics.json").write_text(json.dumps({**metrics, "val": {"recall@20": val}, "test": test}))
        if sealed:
            files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
            (folder / "seal.json").write_text(json.dumps({"schema": 1, "files": files}))
        return folder

    return make


@pytest.fixture
def make_sweep() -> Callable[..., Path]:
    """Writes the sweep.yaml of a folder whose runs are made apart."""

    def make(
        out: Path, settings: list[Setting], seeds: int = 2, arguments: Mapping[str, Sequence[str]] | None = None
    ) -> Path:
        out.mkdir(parents=True, exist_ok=True)
        sweep = Sweep({"source": "/machine/shop"}, tuple(settings), tuple(range(seeds)), arguments=arguments or {})
        plain = sweep.plain()
        if arguments is None:  # as of versions that did not record them
            del plain["arguments"]
        (out / "sweep.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
        return out

    return make
