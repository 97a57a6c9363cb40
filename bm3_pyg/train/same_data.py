"""Whether a run was trained on a dataset, and what differs if it was not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of, fingerprint, modalities, same_fingerprint
from bm3_pyg.data.edges import count
from bm3_pyg.data.mmrec import MAPPINGS
from bm3_pyg.errors import RunError, shown
from bm3_pyg.names import SPLITS
from bm3_pyg.train.run_files import RunFiles

ID_FILES = {filename for filename, _ in MAPPINGS.values()}


def data_record(data: HeteroData) -> dict[str, Any]:
    """What a run records of its data in environment.json."""
    return {
        "fingerprint": fingerprint(data),
        "files": dict(getattr(data, "files", None) or {}),
        "counts": {
            "users": count(data, "user"),
            "items": count(data, "item"),
            **{f"{split} interactions": edges_of(data, split).size(1) for split in SPLITS},
        },
    }


def check_same_data(
    run: Path, recorded: Mapping[str, Any], data: HeteroData, record: Mapping[str, Any] | None = None
) -> None:
    """Raise :class:`RunError` unless ``run`` was trained on ``data``; the line says what differs, as far as is known.

    Args:
        run: Its folder.
        recorded: The section ``dataset`` of its configuration.
        data: What it is to be used with.
        record: What :func:`data_record` gives of it, where that is known.
    """
    before, now = _recorded(run), record or data_record(data)
    was = str(recorded["fingerprint"])
    files = _changes(before.get("files"), now["files"])
    if was == now["fingerprint"]:
        return
    if same_fingerprint(was, now["fingerprint"]) and not ID_FILES & files.keys():
        return  # from before ids counted
    changes = [f"{name} {change}" for name, change in files.items()]
    changes += [
        f"{name} {change}" for name, change in _changes(before.get("counts"), now["counts"], count=True).items()
    ]
    dims = {name: feature.size(1) for name, feature in modalities(data).items()}
    changes += [
        f"modality {name} {change}" for name, change in _changes(recorded["modalities"], dims, count=True).items()
    ]
    if was.split("-")[0] == now["fingerprint"].split("-")[0]:
        changes.append("the users' or items' own ids differ")
    name = getattr(data, "name", None) or "the one given"
    raise RunError(
        f"{run}: trained on another dataset than {name} ({'; '.join(changes) or 'interactions or features differ'}), "
        "expected the one it was trained on: say where it is with --data PATH (from Python: data=), or train anew"
    )


def _recorded(run: Path) -> Mapping[str, Any]:
    """The data that environment.json tells of; none where it cannot be read, as it only explains."""
    try:
        data: Mapping[str, Any] = RunFiles(run).environment().get("data", {})
    except RunError:
        return {}
    return data


def _changes(before: Any, now: Mapping[str, Any], *, count: bool = False) -> dict[str, str]:
    """What became of each entry; nothing where ``before`` is no mapping."""
    if not isinstance(before, dict) or (not before and not count):
        return {}
    changes = {}
    for key in {**before, **now}:
        if key not in now:
            changes[str(key)] = "is gone"
        elif key not in before:
            changes[str(key)] = "is new"
        elif before[key] != now[key]:
            changes[str(key)] = f"was {shown(before[key])}, is {shown(now[key])}" if count else "has changed"
    return changes
