"""Whatever library writes a file: on a full disk there is one line, of the file and the reason, and nothing is left."""

from __future__ import annotations

import gc
import json
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, TrainConfig, fit, load_dataset, recommend
from bm3_pyg.data.cache import cache_folder, cached
from bm3_pyg.data.export import FORMATS, export_dataset
from bm3_pyg.data.prepared import write_prepared
from bm3_pyg.errors import WriteError
from bm3_pyg.eval.users import write_user_metrics
from bm3_pyg.files import append_text, atomic_file, atomic_folder, write_text
from bm3_pyg.serving.embeddings import export_embeddings, export_faiss
from bm3_pyg.serving.lists import recommendation_table, write_table
from bm3_pyg.study import content
from bm3_pyg.study.html import write_report
from bm3_pyg.study.picture import dataset_picture

Small = Callable[[int], Any]
TABLE = pl.DataFrame({"user": range(100_000), "item": range(100_000)})


def torch_save(out: Path) -> None:
    with atomic_file(out) as temporary:
        torch.save({"weights": torch.rand(100_000)}, temporary)


def numpy_savez(out: Path) -> None:
    with atomic_file(out) as temporary:
        np.savez(temporary, values=np.random.default_rng(0).random(100_000))


def numpy_save(out: Path) -> None:
    with atomic_folder(out) as folder:
        np.save(folder / "a.npy", np.zeros(100_000))


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.pt": torch_save,
    "a.npz": numpy_savez,
    "arrays": numpy_save,
    "a.txt": lambda out: write_text(out, "a" * 100_000),
    "a.log": lambda out: append_text(out, "a" * 100_000),
    **{f"a{suffix}": lambda out: write_table(TABLE, out) for suffix in (".parquet", ".csv", ".jsonl")},
}


@pytest.mark.parametrize("size", [0, 100, 10_000, 65_536])
@pytest.mark.parametrize("name", WRITERS)
def test_every_library(tmp_path: Path, small_files: Small, name: str, size: int) -> None:
    refused(tmp_path, name, WRITERS[name], small_files(size))
    WRITERS[name](tmp_path / "out" / name)


def refused(tmp_path: Path, name: str, write: Callable[[Path], Any], full: Any) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with full, pytest.raises(WriteError) as found:
        write(folder / name)
    assert re.fullmatch(
        rf"{re.escape(str(folder / name))}[^\n]*: cannot be written \(the file would be larger than allowed here\)",
        str(found.value),
    )
    assert [path for path in folder.rglob("*") if path.stat().st_size] == []
    for path in folder.iterdir():  # only what is appended to is there before its first line
        path.unlink()


@pytest.fixture(scope="module")
def demo() -> HeteroData:
    return load_dataset("demo")


@pytest.fixture(scope="module")
def model(demo: HeteroData) -> BM3:
    model = BM3.from_data(demo)
    recommend(model, torch.arange(2), exclude=demo)  # compiled before the disk is full
    return model


@pytest.mark.parametrize("format", FORMATS)
def test_a_dataset(tmp_path: Path, small_files: Small, demo: HeteroData, format: str) -> None:
    refused(tmp_path, "data", lambda out: export_dataset(demo, out, format), small_files(10_000))


def test_a_prepared_folder(tmp_path: Path, small_files: Small, demo: HeteroData) -> None:
    refused(
        tmp_path, "data", lambda out: write_prepared(demo, out, settings={}, sources={}, steps=[]), small_files(10_000)
    )


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_embeddings(tmp_path: Path, small_files: Small, demo: HeteroData, model: BM3, format: str) -> None:
    refused(tmp_path, "out", lambda out: export_embeddings(model, demo, out, format), small_files(10_000))


def test_an_index(tmp_path: Path, small_files: Small, demo: HeteroData, model: BM3) -> None:
    pytest.importorskip("faiss")
    refused(tmp_path, "out", lambda out: export_faiss(model, demo, out), small_files(300_000))


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture(tmp_path: Path, small_files: Small, demo: HeteroData, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    refused(tmp_path, f"a{suffix}", lambda out: dataset_picture(demo, out), small_files(10_000))


def test_a_report(tmp_path: Path, small_files: Small, made_report: content.Report) -> None:
    pytest.importorskip("jinja2")
    refused(tmp_path, "a.html", lambda out: write_report(made_report, out), small_files(1000))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_lists(tmp_path: Path, small_files: Small, demo: HeteroData, model: BM3, suffix: str) -> None:
    refused(tmp_path, f"a{suffix}", lambda out: write_table(recommendation_table(model, demo), out), small_files(1000))


def test_what_is_kept_of_the_test(tmp_path: Path, small_files: Small, demo: HeteroData, model: BM3) -> None:
    with small_files(1000), pytest.raises(WriteError, match=r"test_users\.parquet: cannot be written \(the file would"):
        write_user_metrics(model, demo, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_does_without(
    tmp_path: Path, small_files: Small, demo: HeteroData, caplog: pytest.LogCaptureFixture
) -> None:
    with small_files(1000):
        assert cached("full", {}, lambda: demo) is demo
    assert "full is not kept in the cache" in caplog.text
    assert not list(cache_folder().glob("full-*"))


@pytest.mark.parametrize("size", [100, 1000, 3000, 30_000, 300_000])
def test_a_run_stops_and_goes_on_when_there_is_room(
    tmp_path: Path, small_files: Small, demo: HeteroData, size: int
) -> None:
    config = TrainConfig(max_epochs=3, checkpoint_seconds=0)

    def build() -> BM3:
        torch.manual_seed(0)
        return BM3.from_data(demo)

    whole, out = tmp_path / "whole", tmp_path / "run"
    fit(build(), demo, config, whole, verbose=False)
    stopped = build()
    with small_files(size), pytest.raises(WriteError, match=rf"^{out}[^\n]*: cannot be written \(the file would be"):
        fit(stopped, demo, config, out, verbose=False)
    let_go = weakref.ref(stopped)
    del stopped
    gc.collect()
    assert let_go() is None
    assert not (out / "metrics.json").exists()
    assert not out.exists() or not [path for path in out.iterdir() if path.name.endswith(".tmp")]
    fit(build(), demo, config, out, resume=(out / "config.yaml").exists(), verbose=False)
    assert (out / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    assert len([json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]) == 3
