"""A run's embeddings for other tools: arrays, tables, and FAISS indices (extra ``ann``)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch_geometric.data import HeteroData

from bm3_pyg.data import raw_ids
from bm3_pyg.data.ids import fixed_width, to_series
from bm3_pyg.errors import ConfigError
from bm3_pyg.eval.tasks import check_sizes
from bm3_pyg.files import atomic_folder, check_new_folder
from bm3_pyg.protocols import Recommender
from bm3_pyg.serving.cold_start import logger, training_counts
from bm3_pyg.serving.top_k import embeddings_of

RECALL_AT = 20
QUERIES = 4096  # users whose lists are compared with exact search
CELLS = 2  # times the square root of the number of items
VISITED = 8  # an eighth of the cells is searched
SEED = 0


@dataclass(frozen=True)
class IndexReport:
    """How an index did: recall@20 against exact search, mean over ``queries`` users, and queries per second."""

    index: str
    recall: float
    queries_per_second: float
    queries: int


def export_embeddings(model: Recommender, data: HeteroData, out: str | Path, format: str) -> None:
    """Write the users' [U, D] and items' [I, D] embeddings, whose dot products are the scores, with their own ids.

    ``npy`` gives users.npy, items.npy and, row by row, user_ids.npy, item_ids.npy; ``parquet`` gives users.parquet and
    items.parquet with columns id and embedding.

    Raises:
        ConfigError: if the model has no embeddings.
        RunError: if ``out`` exists and is not empty.
    """
    check_new_folder(out)
    check_sizes(model, data)
    users, items = (part.cpu().numpy() for part in embeddings_of(model))
    with atomic_folder(out) as folder:
        if format == "npy":
            _save_arrays(folder, data, users, items)
            return
        for node, values in (("user", users), ("item", items)):
            table = pl.DataFrame({"id": to_series(raw_ids(data, node)), "embedding": values})
            table.write_parquet(folder / f"{node}s.parquet")


def export_faiss(model: Recommender, data: HeteroData, out: str | Path) -> list[IndexReport]:
    """Write the items as indices by inner product, which is the score, with users and ids beside them.

    flat.faiss searches exactly; ivf.faiss divides the items into about 2 sqrt(I) cells and searches an eighth of them
    (set ``nprobe`` for another trade). Row r of an index is item_ids.npy[r]; users.npy [U, D] are the queries, of the
    users user_ids.npy [U]; items.npy [I, D] are the items' vectors.

    Args:
        model: a recommender with ``embed()``.
        data: the dataset it was trained on.
        out: a folder that does not exist yet or is empty.

    Returns:
        What each index finds of the best 20 items, seen ones included, for up to 4,096 users evenly spread.

    Raises:
        ConfigError: if faiss is not installed or the model has no embeddings.
        RunError: if ``out`` exists and is not empty.
    """
    try:
        import faiss
    except ImportError as error:
        raise ConfigError('--format faiss needs faiss: pip install "bm3-pyg[ann]"') from error
    check_new_folder(out)
    users, items = (np.ascontiguousarray(part.cpu().float().numpy()) for part in embeddings_of(model))
    spread = np.unique(np.linspace(0, len(users) - 1, min(len(users), QUERIES)).astype(np.int64))
    queries = users[spread]
    exact = _exact(queries, items, min(RECALL_AT, len(items)))
    reports = []
    with atomic_folder(out) as folder:
        _save_arrays(folder, data, users, items)
        for name, index in (("flat", faiss.IndexFlatIP(items.shape[1])), ("ivf", _cells(faiss, items))):
            index.add(items)
            faiss.write_index(index, str(folder / f"{name}.faiss"))
            reports.append(_measured(name, index, queries, exact))
    return reports


def warn_untrained(data: HeteroData, with_cold: bool) -> None:
    """Tell of the users, and unless ``with_cold`` items, whose embeddings training has not touched."""
    if users := int((training_counts(data, "user") == 0).sum()):
        logger.warning(f"{users:,} users have no training interactions: their embeddings say nothing of them")
    if not with_cold and (items := int((training_counts(data, "item") == 0).sum())):
        logger.warning(
            f"{items:,} items have no training interactions: their embeddings say nothing of them (--with-cold places "
            "them by their features)"
        )


def _save_arrays(folder: Path, data: HeteroData, users: NDArray[np.float32], items: NDArray[np.float32]) -> None:
    """users.npy, items.npy, and the own ids of their rows, user_ids.npy and item_ids.npy."""
    for node, values in (("user", users), ("item", items)):
        np.save(folder / f"{node}s.npy", values)
        np.save(folder / f"{node}_ids.npy", fixed_width(raw_ids(data, node)), allow_pickle=False)


def _cells(faiss: Any, items: NDArray[np.float32]) -> Any:
    """An empty index whose cells are the clusters of ``items`` [I, D]."""
    count = max(1, round(CELLS * len(items) ** 0.5))
    if len(items) < 4 * count:
        count = 1
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(items.shape[1]), items.shape[1], count, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.min_points_per_centroid = SEED, 1
    index.nprobe = -(-count // VISITED)
    index.train(items)
    return index


def _exact(queries: NDArray[np.float32], items: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The best items [B, k] of each query, by scoring all."""
    table = torch.from_numpy(items).T
    best = [(block @ table).topk(k).indices for block in torch.from_numpy(queries).split(128)]
    ids: NDArray[np.int64] = torch.cat(best).numpy()
    return ids


def _measured(name: str, index: Any, queries: NDArray[np.float32], exact: NDArray[np.int64]) -> IndexReport:
    start = time.perf_counter()
    best = index.search(queries, exact.shape[1])[1]
    seconds = time.perf_counter() - start
    hits = (best[:, :, None] == exact[:, None, :]).any(2)
    return IndexReport(name, float(hits.mean()), len(queries) / seconds, len(queries))
