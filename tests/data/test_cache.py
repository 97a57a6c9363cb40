from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg.data import fingerprint, load_dataset
from bm3_pyg.data.cache import cache_folder, cached
from bm3_pyg.data.content import file_sha256
from bm3_pyg.data.interaction_table import TableOptions, read_interaction_table
from bm3_pyg.data.planted import make_planted


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BM3_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The tables that were read and not taken from the cache."""
    seen: list[Path] = []
    real = read_interaction_table

    def counting(path: Path, options: TableOptions, seed: int) -> HeteroData:
        seen.append(path)
        return real(path, options, seed)

    monkeypatch.setattr("bm3_pyg.data.load.read_interaction_table", counting)
    return iter([seen])


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "clicks.csv").write_text("user,item\nann,x\nann,x\nbob,y\nbob,z\n")
    (tmp_path / "image.csv").write_text("item,a,b\nx,1,2\ny,3,4\n")
    return {"source": tmp_path / "clicks.csv", "features": {"image": tmp_path / "image.csv"}}


def same(one: HeteroData, other: HeteroData) -> None:
    assert fingerprint(one) == fingerprint(other)
    stores = zip((*one.node_stores, *one.edge_stores), (*other.node_stores, *other.edge_stores), strict=True)
    for mine, theirs in stores:
        assert list(mine.keys()) == list(theirs.keys())
        for name, value in mine.items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == theirs[name].dtype
                assert torch.equal(value, theirs[name]), name
            else:
                np.testing.assert_array_equal(value, theirs[name])
    assert (one.name, one.files, one.notes, one.source) == (other.name, other.files, other.notes, other.source)


def test_a_file_that_changes_before_it_is_read_is_not_kept_as_what_it_was(
    cache: Path, source: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    was = source["source"].read_text()

    def hash_and_change(path: Path) -> str:
        digest = file_sha256(path)
        source["source"].write_text("user,item\nann,x\ncid,y\n")
        return digest

    with monkeypatch.context() as patch:
        patch.setattr("bm3_pyg.data.load.file_sha256", hash_and_change)
        assert load_dataset(**source)["user"].raw_id.tolist() == ["ann", "cid"]
    source["source"].write_text(was)
    assert load_dataset(**source)["user"].raw_id.tolist() == ["ann", "bob"]


def test_hit_is_the_same_data(
    cache: Path, reads: Iterator[list[Path]], source: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="bm3_pyg"):
        first = load_dataset(**source)
        logged = list(caplog.messages)
        second = load_dataset(**source)
    assert len(next(reads)) == 1
    assert len(list(cache.iterdir())) == 1
    assert logged
    assert caplog.messages == logged * 2
    same(first, second)
    second["item"].image += 1  # an own, writable copy
    same(first, load_dataset(**source))


@pytest.mark.parametrize("name", ["clicks.csv", "image.csv"])
def test_changed_source_is_noticed(
    tmp_path: Path, cache: Path, reads: Iterator[list[Path]], source: dict[str, Any], name: str
) -> None:
    before = load_dataset(**source)
    path = tmp_path / name
    text = path.read_text()
    path.write_text(text.replace("y", "x", 1) if name == "clicks.csv" else text.replace("4", "5"))
    after = load_dataset(**source)
    assert len(next(reads)) == 2
    assert fingerprint(before) != fingerprint(after)
    assert before.files[name] != after.files[name]


def test_other_options_are_another_entry(cache: Path, reads: Iterator[list[Path]], source: dict[str, Any]) -> None:
    load_dataset(**source)
    load_dataset(**source, split="leave-one-out")
    load_dataset(**source, seed=1)
    assert len(next(reads)) == 3


@pytest.mark.parametrize(
    "damage", ["truncate", "flip", "delete", "json", "empty json", "other json", "other entry", "folder"]
)
def test_broken_entry_is_made_anew(
    cache: Path, reads: Iterator[list[Path]], source: dict[str, Any], damage: str
) -> None:
    first = load_dataset(**source)
    (entry,) = cache.iterdir()
    arrays = sorted(entry.glob("*.npy"), key=lambda path: path.stat().st_size)
    raw = arrays[-1].read_bytes()
    if damage == "truncate":
        arrays[-1].write_bytes(raw[:-3])
    elif damage == "flip":
        arrays[-1].write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    elif damage == "delete":
        arrays[0].unlink()
    elif damage == "folder":
        for path in entry.iterdir():
            path.unlink()
    elif damage == "other entry":
        text = (entry / "entry.json").read_text()
        (entry / "entry.json").write_text(text.replace('"rates"', '"hates"'))
    else:
        (entry / "entry.json").write_text({"json": "{", "empty json": "", "other json": "[1]"}[damage])
    same(first, load_dataset(**source))
    same(first, load_dataset(**source))
    assert len(next(reads)) == 2


def test_unwritable_cache_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BM3_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, logger="bm3_pyg"):
        data = load_dataset(**source)
        load_dataset(**source)
    assert data["item"].num_nodes == 3
    assert sum("clicks is not kept in the cache" in message for message in caplog.messages) == 1


def test_nothing_is_left_half_written(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    cached("demo", {"a": 1}, lambda: make_planted("demo", 0))
    assert list(cache.iterdir()) == []


def test_another_process_may_be_faster(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    def build() -> HeteroData:
        return cached("demo", {"a": 1}, lambda: make_planted("demo", 0))

    with caplog.at_level(logging.WARNING, logger="bm3_pyg"):
        data = cached("demo", {"a": 1}, build)
    assert caplog.messages == []
    assert len(list(cache.iterdir())) == 1
    assert fingerprint(cached("demo", {"a": 1}, build)) == fingerprint(data)


def test_nothing_is_pickled(cache: Path, source: dict[str, Any]) -> None:
    load_dataset(**source)
    for path in next(cache.iterdir()).glob("*.npy"):
        np.load(path, allow_pickle=False)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_CACHE", "/a")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("BM3_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/b/bm3_pyg")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert cache_folder() == Path("/c/.cache/bm3_pyg")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a container's user, of whom the system knows nothing
    assert cache_folder().is_absolute()
    assert not cache_folder().exists()
