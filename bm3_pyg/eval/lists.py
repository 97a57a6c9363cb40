"""Top-k lists in the users' own ids, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import torch
from torch_geometric.data import HeteroData

from bm3_pyg.data import index_of, raw_ids
from bm3_pyg.errors import ConfigError, DataError, check_number
from bm3_pyg.eval.recommend import recommend
from bm3_pyg.files import atomic_file
from bm3_pyg.protocols import Recommender

SUFFIXES = (".parquet", ".csv", ".jsonl")


def write_recommendations(
    model: Recommender,
    data: HeteroData,
    out: str | Path,
    users: Sequence[str | int] | None = None,
    k: int = 20,
    candidates: Sequence[str | int] | None = None,
    exclude_seen: bool = True,
) -> int:
    """Write the k best items of each user to ``out``, a row each: user, rank (from 1), item, score.

    Args:
        model: any recommender.
        data: the dataset it was trained on.
        out: a .parquet, .csv or .jsonl file.
        users: the users' own ids; all users by default.
        k: length of the lists; a user with fewer items left gets a shorter one.
        candidates: own ids of the items to choose from; all items by default.
        exclude_seen: leave out every interaction in ``data``.

    Returns:
        The number of rows written.

    Raises:
        ConfigError: for another suffix, or k below 1.
        DataError: for ids that are not in ``data``, which it names.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"{out}: got suffix {out.suffix or 'none'!r}, expected {', '.join(SUFFIXES)}")
    rows = torch.arange(data["user"].num_nodes) if users is None else index_of(data, "user", users)
    allowed = None if candidates is None else index_of(data, "item", candidates)
    check_number("k", k, int, 1)
    k = min(k, data["item"].num_nodes)
    ids, scores = recommend(model, rows, k, data if exclude_seen else None, allowed)
    user, position = (ids >= 0).nonzero(as_tuple=True)
    table = pl.DataFrame(
        {
            "user": raw_ids(data, "user")[rows[user].numpy()],
            "rank": position.numpy() + 1,
            "item": raw_ids(data, "item")[ids[user, position].numpy()],
            "score": scores[user, position].numpy(),
        }
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as temporary:
        if out.suffix == ".parquet":
            table.write_parquet(temporary)
        elif out.suffix == ".csv":
            table.write_csv(temporary)
        else:
            table.write_ndjson(temporary)
    return table.height


def read_ids(path: str | Path) -> list[str]:
    """Ids from a text file, one a line; blank lines do not count.

    Raises:
        DataError: if the file is missing, not UTF-8 text or empty.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}, expected ids, one a line")
    try:
        ids = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8, expected text with one id a line") from None
    if not ids:
        raise DataError(f"{path}: empty, expected ids, one a line")
    return ids
