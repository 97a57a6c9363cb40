"""A prepared folder: a dataset in MMRec's layout with a card that says what is in it and how it came about.

``card.json`` is for programs, ``README.md`` says the same for people.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from bm3_pyg.data.content import file_sha256
from bm3_pyg.data.mmrec import write_mmrec
from bm3_pyg.data.summary import describe, facts
from bm3_pyg.errors import DataError, shown
from bm3_pyg.escape import markdown
from bm3_pyg.files import atomic_folder, is_taken
from bm3_pyg.names import SPLITS

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

CARD = "card.json"
SCHEMA = 1
PACKAGES = ("bm3-pyg", "numpy", "polars", "torch", "torch-geometric", "sentence-transformers")


def is_prepared(out: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> bool:
    """Whether ``out`` was prepared with these settings from these files; of ``sources`` only those on its card count.

    Raises:
        DataError: ``out`` holds something else, or could not be written.
    """
    if not is_taken(out):
        _refuse_unwritable(out)
        return False
    card = read_card(out)
    for key in {**card["settings"], **settings}:
        was, now = card["settings"].get(key), settings.get(key)
        if was != now:
            raise DataError(
                f"{out}: was prepared with {key} {shown(was)}, not {shown(now)}; remove it or choose another folder"
            )
    for name, path in sources.items():
        known = card["sources"].get(name)
        if known and (path.stat().st_size != known["bytes"] or file_sha256(path) != known["sha256"]):
            raise DataError(f"{out}: was prepared from another {name} than {path}; remove it or choose another folder")
    return True


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a prepared folder; a :class:`DataError` where there is none."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        card = None
    if not isinstance(card, dict) or card.get("schema") != SCHEMA:
        raise DataError(f"{folder}: exists but has no {CARD} of schema {SCHEMA}, expected a prepared or a new folder")
    sources = card.get("sources")
    files = list(sources.values()) if isinstance(sources, dict) else [None]
    whole = all(isinstance(file, dict) and {"bytes", "sha256"} <= file.keys() for file in files)
    if not whole or not isinstance(card.get("settings"), dict):
        raise DataError(
            f"{folder / CARD}: damaged, expected the settings and sources; remove the folder to prepare anew"
        )
    return card


def write_prepared(
    data: HeteroData,
    out: Path,
    *,
    settings: Mapping[str, Any],
    sources: Mapping[str, Path],
    steps: list[dict[str, Any]],
    about: str = "",
) -> None:
    """Write the folder ``out``, whole or not at all.

    Args:
        data: The dataset.
        out: A folder that does not exist yet or is empty.
        settings: What it depends on beside its sources, as JSON can hold it.
        sources: The files it was made of, by name.
        steps: What each step dropped and left: ``{"step": str, "dropped": int, "left": int}``.
        about: Markdown that goes to README.md before the counts.

    Raises:
        WriteError: The folder cannot be written.
    """
    description = describe(data)
    card = {
        "schema": SCHEMA,
        "name": description.pop("name"),
        "settings": dict(settings),
        "sources": {name: _file(path, data.files.get(name)) for name, path in sources.items()},
        "steps": steps,
        **{key: value for key, value in description.items() if key != "files"},
        "versions": _versions(),
    }
    with atomic_folder(out) as folder:
        write_mmrec(data, folder)
        card["files"] = {path.name: _file(path) for path in sorted(folder.iterdir())}
        (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card_text(card, about), encoding="utf-8")


def card_text(card: Mapping[str, Any], about: str = "") -> str:
    """The card as Markdown."""
    settings = [(key, json.dumps(value)) for key, value in card["settings"].items()]
    steps = [(step["step"], f"{step['dropped']:,}", f"{step['left']:,}") for step in card["steps"]]
    parts = [
        f"# {markdown(str(card['name']))}",
        about.strip(),
        "`bm3 train` and `load_dataset` take this folder as it is (MMRec's layout); `card.json` holds what follows.",
        "## Counts",
        _table(["", ""], facts(card)),
        "## Splits",
        _table(
            ["", "interactions", "users", "items", "repeated pairs"],
            [
                (split, *(f"{card[key][split]:,}" for key in ("splits", "split_users", "split_items", "duplicates")))
                for split in SPLITS
            ],
        ),
        f"Pairs in two splits: {sum(card['leaks'].values()):,}.",
        "## How it was made",
        _table(["setting", "value"], settings),
        _table(["step", "dropped", "left"], steps) if steps else "",
        "\n".join(f"- {markdown(note)}" for note in card["notes"]),
        "## Files",
        _table(["source", "bytes", "SHA-256"], _hashes(card["sources"])),
        _table(["written", "bytes", "SHA-256"], _hashes(card["files"])),
        f"Fingerprint: `{card['fingerprint']}`. Made with "
        + ", ".join(f"{name} {number}" for name, number in card["versions"].items())
        + ".",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _refuse_unwritable(out: Path) -> None:
    """Before hours of work, not after them."""
    place = next(parent for parent in Path(os.path.abspath(out)).parents if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise DataError(f"{out}: {place} cannot be written to, expected a folder that can")


def _file(path: Path, sha256: str | None = None) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256 or file_sha256(path)}


def _hashes(files: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    return [(name, f"{file['bytes']:,}", file["sha256"]) for name, file in files.items()]


def _table(headers: list[str], rows: list[Any]) -> str:
    rows = [[markdown(str(cell)) for cell in row] for row in rows]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
