"""What a full ranking gives each user and each positive: kept beside a run, so that tests can be redone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import torch
from torch_geometric.data import HeteroData

from bm3_pyg.errors import check_number
from bm3_pyg.eval.beyond import beyond_accuracy
from bm3_pyg.eval.held_out import HeldOut
from bm3_pyg.eval.metrics import measured, metrics_at
from bm3_pyg.eval.ranking import Ranking, best_items
from bm3_pyg.eval.tasks import check_sizes, degrees, ranking_task
from bm3_pyg.files import atomic_file, write_text
from bm3_pyg.protocols import Recommender, ranking_mode

USERS_FILE = "test_users.parquet"
POSITIVES_FILE = "test_positives.parquet"
BEYOND_FILE = "beyond.json"
NAMES = ("recall", "ndcg")
CUTOFFS = (10, 20)
LENGTH = max(CUTOFFS)


def user_metrics(
    model: Recommender, data: HeteroData, split: str = "test", k: Sequence[int] = CUTOFFS, mask: str = "train"
) -> pl.DataFrame:
    """A row for each evaluated user: user (its index), training_interactions, positives, recall@k and ndcg@k.

    The means of the metrics are those of :func:`bm3_pyg.evaluate`, which explains the arguments.
    """
    return _users_table(_ranking(model, data, split, max(k), mask), data, k)


def positive_hits(
    model: Recommender, data: HeteroData, split: str = "test", k: int = 20, mask: str = "train"
) -> pl.DataFrame:
    """A row for each positive of an evaluated user: user, item, training_interactions of the item, hit.

    ``hit`` is true where the item is among the user's first k.
    """
    return _positives_table(_ranking(model, data, split, k, mask), data, k)


def write_user_metrics(model: Recommender, data: HeteroData, folder: str | Path, mask: str = "train") -> None:
    """Rank the test split as a run does, and :func:`write_ranking`; nothing is written without test interactions."""
    held_out = HeldOut(model, data, mask, ["test"])
    check_sizes(held_out.model, data)
    if (ranking := held_out.ranking("test", LENGTH)) is not None:
        write_ranking(ranking, data, folder)


def write_ranking(ranking: Ranking, data: HeteroData, folder: str | Path) -> None:
    """Write test_users.parquet, test_positives.parquet and beyond.json of a test ``ranking`` to ``folder``.

    They hold what :func:`user_metrics`, :func:`positive_hits` and :func:`~bm3_pyg.eval.beyond.beyond_accuracy` give.

    Raises:
        WriteError: if ``folder`` cannot be written.
    """
    folder = Path(folder)
    tables = {USERS_FILE: _users_table(ranking, data, CUTOFFS), POSITIVES_FILE: _positives_table(ranking, data, LENGTH)}
    beyond = beyond_accuracy(ranking.ids, data, LENGTH)
    for name, table in tables.items():
        with atomic_file(folder / name) as temporary:
            table.write_parquet(temporary)
    write_text(folder / BEYOND_FILE, json.dumps(beyond, indent=2) + "\n")


def _ranking(model: Recommender, data: HeteroData, split: str, k: int, mask: str) -> Ranking:
    check_number("k", k, int, 1)
    with ranking_mode(model) as model:
        check_sizes(model, data)
        task = ranking_task(data, split, mask)
        return Ranking(task, torch.cat([*best_items(model.scorer(), task, k)]))


def _users_table(ranking: Ranking, data: HeteroData, k: Sequence[int]) -> pl.DataFrame:
    users, positives = ranking.task.users, ranking.task.positives
    values = measured(metrics_at(k, NAMES), ranking.ids, positives.entries(users))
    columns = {
        "user": users,
        "training_interactions": degrees(data, "user")[users],
        "positives": positives.lengths()[users],
        **{f"{name}@{cutoff}": values[f"{name}@{cutoff}"] for name in NAMES for cutoff in k},
    }
    return pl.DataFrame({name: column.numpy() for name, column in columns.items()})


def _positives_table(ranking: Ranking, data: HeteroData, k: int) -> pl.DataFrame:
    user, items = ranking.task.positives.entries(ranking.task.users)
    hits = torch.zeros_like(items, dtype=torch.bool)
    for place in ranking.ids[:, :k].T:
        hits |= place[user] == items
    columns = {
        "user": ranking.task.users[user],
        "item": items,
        "training_interactions": degrees(data, "item")[items],
        "hit": hits,
    }
    return pl.DataFrame({name: column.numpy() for name, column in columns.items()})
