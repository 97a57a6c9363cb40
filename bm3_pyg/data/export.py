"""A dataset as files for other tools, the Open Graph Benchmark's layout (extra ``ogb``) among them."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch_geometric.data import HeteroData

from bm3_pyg.data.edges import RATES, count, edges_of, interactions_of
from bm3_pyg.data.hetero import missing_of, modalities, raw_ids
from bm3_pyg.data.ids import fixed_width, to_series
from bm3_pyg.data.mmrec import write_mmrec
from bm3_pyg.errors import ConfigError, DataError, nearest, shown
from bm3_pyg.files import atomic_folder, check_new_folder, write_text
from bm3_pyg.names import SPLITS

OGB_SPLITS = {"train": "train", "valid": "val", "test": "test"}
README = """\
# {name}

{users} users and {items} items in the layout of the Open Graph Benchmark, for its hetero link prediction. The graph has
the training interactions as edges {relation}. The splits (train, valid, test) hold `source_node` (users) and
`target_node` (items), without sampled negatives: rank all items. {features}
`{folder}/mapping` has the ids of the source files.

ogb keeps a pickled copy of what it has read, which PyTorch's safe loading refuses the second time; remove it first:

```python
from pathlib import Path

import torch
from ogb.linkproppred import LinkPropPredDataset

folder = Path({out!r})
meta = torch.load(folder / "meta_dict.pt", weights_only=True)
meta["dir_path"] = str(folder / "{folder}")  # where the folder is now
(folder / "{folder}/processed/data_processed").unlink(missing_ok=True)
dataset = LinkPropPredDataset("{name}", meta_dict=meta)
graph, splits = dataset[0], dataset.get_edge_split()
```

For PyTorch Geometric, say what the copy may hold, for this one call:

```python
from pathlib import Path

import numpy as np
import torch
from ogb.linkproppred import PygLinkPropPredDataset
from torch_geometric.data.data import Data, DataEdgeAttr, DataTensorAttr
from torch_geometric.data.storage import GlobalStorage

folder = Path({out!r})
meta = torch.load(folder / "meta_dict.pt", weights_only=True)
meta["dir_path"] = str(folder / "{folder}")
multiarray = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray
numbers = [np.dtype, type(np.dtype("int64")), multiarray.scalar]
with torch.serialization.safe_globals([Data, DataEdgeAttr, DataTensorAttr, GlobalStorage, *numbers]):
    dataset = PygLinkPropPredDataset("{name}", meta_dict=meta)
graph, splits = dataset[0], dataset.get_edge_split()
```
"""


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
            ``"ogb"``: what ``ogb.linkproppred.LinkPropPredDataset`` reads, and a README.md that says how: the training
            interactions as edges (user, rates, item), all modalities side by side as the items' features [I, sum of d]
            float32, the splits, and the own ids.

    Raises:
        ConfigError: The format is unknown, or ogb is not installed.
        DataError: ``out`` exists and is not an empty folder.
        WriteError: ``out`` cannot be written.
    """
    if format not in FORMATS:
        raise ConfigError(f"format: got {shown(format)}, {nearest(format, FORMATS)}")
    out = Path(out)
    check_new_folder(out, DataError)
    with atomic_folder(out) as folder:
        FORMATS[format](data, folder, out.resolve())


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


def _write_ogb(data: HeteroData, folder: Path, out: Path) -> None:
    """The splits are saved as tensors, so that reading them unpickles nothing else."""
    try:
        from ogb.io import DatasetSaver
    except ImportError as error:
        raise ConfigError('--format ogb needs ogb: pip install "bm3-pyg[ogb]"') from error

    name = "ogbl-" + (re.sub(r"[^a-z0-9]+", "_", str(getattr(data, "name", "data")).lower()).strip("_") or "data")
    features = {modality: values.detach().cpu().float().numpy() for modality, values in modalities(data).items()}
    graph: dict[str, Any] = {
        "edge_index_dict": {RATES: edges_of(data, "train").numpy()},
        "num_nodes_dict": {"user": count(data, "user"), "item": count(data, "item")},
    }
    if features:
        graph["node_feat_dict"] = {"item": np.concatenate([*features.values()], axis=1)}
    splits = {
        theirs: dict(zip(("source_node", "target_node"), edges_of(data, ours), strict=True))
        for theirs, ours in OGB_SPLITS.items()
    }
    arrays = {split: {end: ids.numpy() for end, ids in ends.items()} for split, ends in splits.items()}
    text = _readme(data, name, features, out)
    mapping = folder / "mapping"
    _write_mapping(data, mapping, text)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # it tells of every step
        saver = DatasetSaver(name, is_hetero=True, version=1, root=str(folder / "ogb"))
        saver.save_graph_list([graph])
        saver.save_split(arrays, "given")
        saver.copy_mapping_dir(str(mapping))
        saver.save_task_info(task_type="link prediction", eval_metric="mrr")
        meta = saver.get_meta_dict()
    shutil.rmtree(mapping)
    torch.save(splits, Path(saver.split_dir) / "split_dict.pt")
    torch.save({**meta, "dir_path": str(out / saver.dataset_suffix)}, saver.meta_dict_path)
    for path in Path(saver.submission_dir).iterdir():
        path.rename(folder / path.name)
    Path(saver.submission_dir).rmdir()
    write_text(folder / "README.md", text)


def _readme(data: HeteroData, name: str, features: dict[str, NDArray[np.float32]], out: Path) -> str:
    ends = np.cumsum([0, *(values.shape[1] for values in features.values())])
    columns = [f"{name} {low}-{high - 1}" for name, (low, high) in zip(features, pairwise(ends.tolist()), strict=True)]
    return README.format(
        name=name,
        users=f"{count(data, 'user'):,}",
        items=f"{count(data, 'item'):,}",
        relation=RATES,
        features=f"Columns of the items' features: {', '.join(columns)}." if features else "There are no features.",
        folder=name.removeprefix("ogbl-"),
        out=str(out),
    )


def _write_mapping(data: HeteroData, folder: Path, readme: str) -> None:
    folder.mkdir()
    (folder / "README.md").write_text(readme, encoding="utf-8")
    for kind in ("user", "item"):
        ids = to_series(raw_ids(data, kind))
        pl.DataFrame({"node idx": np.arange(len(ids)), f"{kind} id": ids}).write_csv(folder / f"{kind}_ids.csv")


FORMATS: dict[str, Callable[[HeteroData, Path, Path], None]] = {  # data, the folder to write into, its later name
    "mmrec": lambda data, folder, out: write_mmrec(data, folder),
    "npy": _write_npy,
    "parquet": _write_parquet,
    "ogb": _write_ogb,
}
