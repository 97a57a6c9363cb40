"""Datasets that are slow to make or to parse, kept in a folder of our own as .npy arrays and one JSON file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bm3_pyg.errors import WriteError, one_line, warn_once
from bm3_pyg.files import atomic_folder
from bm3_pyg.later import Later
from bm3_pyg.waiting import waiting

if TYPE_CHECKING:
    import torch
    from torch_geometric.data import HeteroData
else:
    torch = Later("torch")

VERSION = 3  # of the entries' format and of what is computed from the same source
GLOBALS = ("name", "files", "notes", "split_checksums")


def cached(name: str, key: Mapping[str, Any], build: Callable[[], HeteroData]) -> HeteroData:
    """The dataset kept under ``key``, or a new one from ``build``, which is then kept.

    An entry that is broken in any way is made anew; where the cache cannot be written, a note is logged and no more.

    Args:
        name: Begins the entry's folder name, for people.
        key: Everything the dataset depends on, hashes of files included, as JSON can hold it.
        build: Makes the dataset.
    """
    digest = hashlib.sha256(json.dumps({"version": VERSION, **key}, sort_keys=True).encode()).hexdigest()
    entry = cache_folder() / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)}-{digest[:32]}"
    if (data := _read_or_none(entry)) is not None:
        return data
    with waiting(f"making {name}, which is kept for the next time"):
        data = build()
    shutil.rmtree(entry, ignore_errors=True)
    try:
        with atomic_folder(entry) as folder:
            _write(data, folder)
    except WriteError as error:
        if not entry.exists():  # else another process was faster
            not_kept(name, error)
    return data


def cache_folder() -> Path:
    """``$BM3_CACHE``, else ``$XDG_CACHE_HOME/bm3_pyg``, else ``~/.cache/bm3_pyg``."""
    if folder := os.environ.get("BM3_CACHE"):
        return Path(folder)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.devnull if home.startswith("~") else home) / "bm3_pyg"  # without a home nothing is read or kept


def not_kept(what: str, error: WriteError) -> None:
    """Say, once a process, that the cache cannot be written."""
    warn_once("%s is not kept in the cache, which BM3_CACHE can name a folder for (%s)", what, one_line(error))


def _write(data: HeteroData, folder: Path) -> None:
    index: dict[str, Any] = {"globals": {name: data[name] for name in GLOBALS if name in data}, "values": []}
    for store in (*data.node_stores, *data.edge_stores):
        kind = list(store._key) if isinstance(store._key, tuple) else store._key
        for name, value in store.items():
            entry = {"store": kind, "name": name}
            if isinstance(value, int):
                index["values"].append({**entry, "value": value})
                continue
            array = value.numpy() if isinstance(value, torch.Tensor) else value
            if strings := array.dtype == object:
                array = np.frombuffer("\0".join(array).encode(), dtype=np.uint8)
            file = f"{len(index['values'])}.npy"
            np.save(folder / file, array, allow_pickle=False)
            index["values"].append(
                {
                    **entry,
                    "file": file,
                    "sha256": _hash(array),
                    "tensor": isinstance(value, torch.Tensor),
                    "strings": strings,
                }
            )
    text = json.dumps(index)
    (folder / "entry.json").write_text(f"{_text_hash(text)}\n{text}", encoding="utf-8")


def _read_or_none(folder: Path) -> HeteroData | None:
    try:
        return _read(folder)
    except Exception:  # whatever is wrong with an entry, it can be made anew
        return None


def _read(folder: Path) -> HeteroData:
    digest, _, text = (folder / "entry.json").read_text(encoding="utf-8").partition("\n")
    if digest != _text_hash(text):
        raise ValueError(f"{folder / 'entry.json'}: content has changed")
    index = json.loads(text)
    from bm3_pyg.data.for_pyg import for_loaders, new_graph

    data = new_graph()
    for name, value in index["globals"].items():
        data[name] = value
    for entry in index["values"]:
        kind = tuple(entry["store"]) if isinstance(entry["store"], list) else entry["store"]
        if "value" in entry:
            data[kind][entry["name"]] = entry["value"]
            continue
        # Mapped, so that large features take no memory until they are read, and the system can drop them again.
        array = np.load(folder / entry["file"], mmap_mode="c" if entry["tensor"] else None, allow_pickle=False)
        if _hash(array) != entry["sha256"]:
            raise ValueError(f"{folder / entry['file']}: content has changed")
        if entry["strings"]:
            array = np.array(array.tobytes().decode().split("\0"), dtype=object)
        data[kind][entry["name"]] = torch.from_numpy(array) if entry["tensor"] else for_loaders(array)
    return data


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hash(array: NDArray[Any]) -> str:
    """SHA-256 of an array's type, shape and values."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    if array.size:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()
