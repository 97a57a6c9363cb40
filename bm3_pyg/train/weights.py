"""What a run keeps of a model's weights, and how they are put back.

Each table of rows is kept once. In last.pt a table that an optimizer holds is part of the optimizer's state, with the
moves owed to its rows. best.pt has, of tables that no score is computed from, the rows of items without training
interactions alone: by those :func:`bm3_pyg.eval.with_cold_items` places such items.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bm3_pyg.errors import RunError, shown
from bm3_pyg.optim import RowTable
from bm3_pyg.optim.kept_rows import KeptRows
from bm3_pyg.train.checkpoint import load_weights


def held_tables(model: nn.Module) -> list[str]:
    """Names of the row tables that an optimizer holds."""
    return [name for name, table in _tables(model) if table.deferral is not None]


def unscored_tables(model: nn.Module) -> list[str]:
    """Names of the trained row tables that no score is computed from, where the model's own class says so."""
    parts = vars(type(model)).get("unscored", ())  # a subclass may score by them
    return [name for name, table in _tables(model) if table.trainable and name.partition(".")[0] in parts]


def weights_without(model: nn.Module, tables: Collection[str]) -> dict[str, Any]:
    """``model.state_dict()`` without those row tables, which are not read."""
    with _taken_out(model, tables):
        return model.state_dict()


def load_weights_without(model: nn.Module, weights: Mapping[str, Any], path: Path, tables: Collection[str]) -> None:
    """Load ``weights`` into all of ``model`` but those row tables.

    Raises:
        RunError: as :func:`~bm3_pyg.train.checkpoint.load_weights`.
    """
    with _taken_out(model, tables):
        load_weights(model, weights, path)


@torch.no_grad()
def kept_rows(model: nn.Module, tables: Collection[str], rows: Tensor) -> dict[str, dict[str, Tensor]]:
    """``rows`` [n], increasing, of each of those row tables, and their values [n, d]."""
    found: dict[str, Any] = {name: model.get_submodule(name) for name in tables}
    return {name: {"rows": rows, "weight": table.gather(rows.to(table.stored.device))} for name, table in found.items()}


def load_best_weights(model: nn.Module, best: Mapping[str, Any], path: Path) -> None:
    """Load what best.pt holds. A table of which it has some rows becomes :class:`~bm3_pyg.optim.kept_rows.KeptRows`.

    Raises:
        RunError: it does not fit the model.
    """
    kept = best.get("kept", {})
    tables = dict(_tables(model))
    for name, part in kept.items():
        table = tables.get(name)
        if table is None or not table.trainable:
            raise RunError(f"{path}: kept: {shown(name)} is no trained table of the model")
        _check_kept(part, table, f"{path}: kept: {name}")
    load_weights_without(model, best["model"], path, kept)
    for name, part in kept.items():
        table = tables[name]
        rows, values = (part[key].to(table.stored.device, copy=True) for key in ("rows", "weight"))
        parent, _, key = name.rpartition(".")
        table.deferral = None  # nothing is owed to what is let go
        setattr(model.get_submodule(parent), key, KeptRows(rows, values, table.shape[0]))


def _check_kept(part: Mapping[str, Tensor], table: RowTable, where: str) -> None:
    rows, values = part["rows"], part["weight"]
    ends = [-1, *rows.tolist(), table.shape[0]]
    if any(before >= after for before, after in pairwise(ends)):
        raise RunError(f"{where}: rows: expected increasing numbers below {table.shape[0]:,}")
    found, expected = f"{values.dtype} {list(values.shape)}", f"{table.stored.dtype} {[len(rows), table.shape[1]]}"
    if found != expected:
        raise RunError(f"{where}: weight is {found}, expected {expected}")


def _tables(model: nn.Module) -> list[tuple[str, RowTable]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, RowTable)]


@contextmanager
def _taken_out(model: nn.Module, tables: Collection[str]) -> Iterator[None]:
    """Within the context the submodules of these names are not there."""
    places = [(model.get_submodule(name.rpartition(".")[0])._modules, name.rpartition(".")[2]) for name in tables]
    taken = [modules[key] for modules, key in places]
    for modules, key in places:
        modules[key] = None
    try:
        yield
    finally:
        for (modules, key), table in zip(places, taken, strict=True):
            modules[key] = table
