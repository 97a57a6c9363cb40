"""What a full ranking gives each user and each positive: kept beside a run, so that tests can be redone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.data.edges import count
from bm3_pyg.errors import check_number
from bm3_pyg.eval.beyond import beyond_accuracy
from bm3_pyg.eval.cold import held_out_scorer, held_out_task
from bm3_pyg.eval.metrics import measured, metrics_at
from bm3_pyg.eval.ranking import (
    MEMORY_MB,
    RankingTask,
    best_items,
    block_size,
    check_sizes,
    device_of,
    ranking_task,
)
from bm3_pyg.files import atomic_file, write_text
from bm3_pyg.ops.csr import CSR
from bm3_pyg.protocols import Recommender, Scorer, ranking_mode

USERS_FILE = "test_users.parquet"
POSITIVES_FILE = "test_positives.parquet"
BEYOND_FILE = "beyond.json"
NAMES = ("recall", "ndcg")
CUTOFFS = (10, 20)


def user_metrics(
    model: Recommender, data: HeteroData, split: str = "test", k: Sequence[int] = CUTOFFS, mask: str = "train"
) -> pl.DataFrame:
    """A row for each evaluated user: user (its index), training_interactions, positives, recall@k and ndcg@k.

    The means of the metrics are those of :func:`bm3_pyg.eval.ranking.evaluate`, which explains the arguments.
    """
    with ranking_mode(model) as model:
        check_sizes(model, data)
        return _users_table(_ranked(model.scorer(), ranking_task(data, split, mask), max(k)), data, k)


def positive_hits(
    model: Recommender, data: HeteroData, split: str = "test", k: int = 20, mask: str = "train"
) -> pl.DataFrame:
    """A row for each positive of an evaluated user: user, item, training_interactions of the item, hit.

    ``hit`` is true where the item is among the user's first k.
    """
    with ranking_mode(model) as model:
        check_sizes(model, data)
        return _positives_table(_ranked(model.scorer(), ranking_task(data, split, mask), k), data, k)


def write_user_metrics(model: Recommender, data: HeteroData, folder: str | Path, mask: str = "train") -> None:
    """Rank the test split once, and write test_users.parquet, test_positives.parquet and beyond.json to ``folder``.

    They hold what :func:`user_metrics`, :func:`positive_hits` and :func:`~bm3_pyg.eval.beyond.beyond_accuracy` give.
    Without test interactions nothing is written.

    Raises:
        WriteError: if ``folder`` cannot be written.
    """
    if not edges_of(data, "test").size(1):
        return
    folder = Path(folder)
    with ranking_mode(model) as model:
        check_sizes(model, data)
        ranked = _ranked(held_out_scorer(model, data), held_out_task(data, "test", mask), max(CUTOFFS))
    tables = {
        USERS_FILE: _users_table(ranked, data, CUTOFFS),
        POSITIVES_FILE: _positives_table(ranked, data, max(CUTOFFS)),
    }
    beyond = beyond_accuracy(ranked.ids, data, max(CUTOFFS))
    for name, table in tables.items():
        with atomic_file(folder / name) as temporary:
            table.write_parquet(temporary)
    write_text(folder / BEYOND_FILE, json.dumps(beyond, indent=2) + "\n")


@dataclass(frozen=True)
class _Ranked:
    """The best items ``ids`` [n, k] of the users of ``task`` [n]; I stands for none."""

    task: RankingTask
    ids: Tensor


@torch.no_grad()
def _ranked(scorer: Scorer, task: RankingTask, k: int) -> _Ranked:
    check_number("k", k, int, 1)
    device = device_of(scorer, task)
    hidden, barred = task.hidden.to(device), None if task.barred is None else task.barred.to(device)
    blocks = task.users.split(block_size(task.num_items, MEMORY_MB))
    return _Ranked(task, torch.cat([best_items(scorer, users, hidden, barred, k) for users in blocks]))


def _users_table(ranked: _Ranked, data: HeteroData, k: Sequence[int]) -> pl.DataFrame:
    users = ranked.task.users
    columns = {
        "user": users,
        "training_interactions": _degrees(data, "user")[users],
        "positives": ranked.task.positives.lengths()[users],
    }
    values = measured(metrics_at(k, NAMES), ranked.ids, ranked.task.positives.entries(users))
    columns |= {f"{name}@{cutoff}": values[f"{name}@{cutoff}"] for name in NAMES for cutoff in k}
    return pl.DataFrame({name: column.numpy() for name, column in columns.items()})


def _positives_table(ranked: _Ranked, data: HeteroData, k: int) -> pl.DataFrame:
    at, items = ranked.task.positives.entries(ranked.task.users)
    hits = torch.zeros_like(items, dtype=torch.bool)
    for place in ranked.ids[:, :k].T:
        hits |= place[at] == items
    columns = {
        "user": ranked.task.users[at],
        "item": items,
        "training_interactions": _degrees(data, "item")[items],
        "hit": hits,
    }
    return pl.DataFrame({name: column.numpy() for name, column in columns.items()})


def _degrees(data: HeteroData, kind: str) -> Tensor:
    """Training interactions of every user or item, repeated ones counted once."""
    training = CSR.of(edges_of(data, "train"), count(data, "user"), count(data, "item"))
    return training.lengths() if kind == "user" else training.indices.bincount(minlength=count(data, "item"))
