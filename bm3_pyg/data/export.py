"""A dataset as files for other tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from torch_geometric.data import HeteroData

from bm3_pyg.data.edges import edges_of
from bm3_pyg.data.graph import interactions_of, missing_of, modalities, raw_ids
from bm3_pyg.data.ids import fixed_width, to_series
from bm3_pyg.data.interactions import SPLITS
from bm3_pyg.data.mmrec import write_mmrec
from bm3_pyg.data.ogb_export import write_ogb
from bm3_pyg.errors import ConfigError, DataError, nearest, shown
from bm3_pyg.files import atomic_folder, is_taken


def export_dataset(data: HeteroData, out: str | Path, format: str) -> None:
    """Write a dataset into the folder ``out``, whole or not at all.

    Args:
        data: The dataset.
        out: A folder that does not exist yet or is empty.
        format: ``"mmrec"``: a folder that :func:`bm3_pyg.load_dataset` reads back to the same data.
            ``"npy"``: train_edges.npy, val_edges.npy, test_edges.npy ([2, E], user row, item row), NAME_feat.npy [I, d]
            and NAME_missing.npy [I] per modality, and the own ids user_ids.npy [U] and item_ids.npy [I].
            ``"parquet"``: interactions.parquet (user, item, label, time, rating; own ids), items.parquet (every item)
            and a NAME.parquet per modality (item, NAME; without the items whose feature was filled in), to be loaded
            with ``load_dataset("interactions.parquet", label="label", items="items.parquet", features={...})``.
            ``"ogb"``: a folder that ``ogb.linkproppred`` reads, see :func:`bm3_pyg.data.ogb_export.write_ogb`.

    Raises:
        ConfigError: The format is unknown, or ogb is not installed.
        DataError: ``out`` exists and is not an empty folder.
        WriteError: ``out`` cannot be written.
    """
    if format not in FORMATS:
        raise ConfigError(f"format: got {shown(format)}, {nearest(format, FORMATS)}")
    out = Path(out)
    if is_taken(out):
        raise DataError(f"{out}: exists already, expected a new or empty folder")
    with atomic_folder(out) as folder:
        FORMATS[format](data, folder, out.resolve())


def _write_mmrec(data: HeteroData, folder: Path, out: Path) -> None:
    write_mmrec(data, folder)


def _write_npy(data: HeteroData, folder: Path, out: Path) -> None:
    for split in SPLITS:
        np.save(folder / f"{split}_edges.npy", edges_of(data, split).numpy())
    for name, values in modalities(data).items():
        np.save(folder / f"{name}_feat.npy", values.detach().cpu().float().numpy())
        np.save(folder / f"{name}_missing.npy", missing_of(data, name))
    for kind in ("user", "item"):
        np.save(folder / f"{kind}_ids.npy", fixed_width(raw_ids(data, kind)), allow_pickle=False)


def _write_parquet(data: HeteroData, folder: Path, out: Path) -> None:
    rows = interactions_of(data)
    rows = rows.take(np.argsort(rows.users, kind="stable"))  # so that users keep their order when loaded again
    users, items = to_series(raw_ids(data, "user")), to_series(raw_ids(data, "item"))
    table = {
        "user": users[rows.users],
        "item": items[rows.items],
        "label": pl.Series(np.array(SPLITS)[rows.split].tolist(), dtype=pl.String),
        "time": rows.time,
        "rating": rows.rating,
    }
    pl.DataFrame({name: column for name, column in table.items() if column is not None}).write_parquet(
        folder / "interactions.parquet"
    )
    pl.DataFrame({"item": items}).write_parquet(folder / "items.parquet")
    for name, values in modalities(data).items():
        if name == "interactions":
            raise DataError("data['item'].interactions: its file would be interactions.parquet, expected another name")
        present = np.flatnonzero(~missing_of(data, name))
        features = values.detach().cpu().float().numpy()[present]
        pl.DataFrame({"item": items[present], name: features}).write_parquet(folder / f"{name}.parquet")


FORMATS: dict[str, Callable[[HeteroData, Path, Path], None]] = {  # data, the folder to write into, its later name
    "mmrec": _write_mmrec,
    "npy": _write_npy,
    "parquet": _write_parquet,
    "ogb": write_ogb,
}
