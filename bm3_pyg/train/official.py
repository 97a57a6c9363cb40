"""Checkpoints of the authors' code and of MMRec, read without running anything they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.errors import RunError
from bm3_pyg.eval import evaluate
from bm3_pyg.files import check_not_in_use
from bm3_pyg.models.bm3 import BM3, OFFICIAL_NAMES
from bm3_pyg.timeline import part, recorded
from bm3_pyg.train.checkpoint import check_archive
from bm3_pyg.train.run import RunFolder
from bm3_pyg.train.run_files import check_new_run
from bm3_pyg.train.settings import TrainConfig

OPTIONS = {
    "embedding_size": "embedding_dim",
    "n_layers": "num_layers",
    "dropout": "dropout",
    "reg_weight": "reg_weight",
    "cl_weight": "align_weight",
}


class _Inert:
    """Stands in for a class of the checkpoint: takes any arguments and state, and does nothing."""

    def __init__(self, *arguments: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else {}


ZIP = b"PK\x03\x04"  # what torch tells its files by
STAND_INS = (
    "utils.configurator.Config",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
)


def read_official_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of an official checkpoint, and the model options that it tells (of :class:`~bm3_pyg.BM3`).

    Args:
        path: a file with a state dict, or with one under ``state_dict`` beside the configuration.

    Raises:
        RunError: if the file is not such a checkpoint, or holds anything but tensors, plain values and the
            authors' configuration.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}, expected a checkpoint")
    with path.open("rb") as file:
        if file.read(len(ZIP)) == ZIP:  # else it is of a version of torch that wrote no checksums
            check_archive(path)
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in STAND_INS]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise RunError(f"{path}: damaged, or holds more than tensors, plain values and the authors' Config") from error
    weights = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not weights or not all(isinstance(v, Tensor) for v in weights.values()):
        raise RunError(f"{path}: no state dict of tensors in it")
    config = checkpoint.get("config")
    settings = config.state.get("final_config_dict", {}) if isinstance(config, _Inert) else {}
    return weights, {ours: settings[theirs] for theirs, ours in OPTIONS.items() if theirs in settings}


@recorded()
def import_checkpoint(
    path: str | Path,
    data: HeteroData,
    out: Path,
    config: TrainConfig | None = None,
    options: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
) -> BM3:
    """Make a run in ``out`` of an official checkpoint trained on ``data``, and return its model.

    Args:
        path: the checkpoint.
        data: the dataset, in the numbering of the checkpoint (MMRec's folder).
        out: folder of the run.
        config: recorded as the run's training settings, with ``save_features``: nobody can make the weights again.
        options: options of the model; by default what the checkpoint tells, else the published ones.
        names: the checkpoint's modality names to ours.

    Raises:
        RunError: if the checkpoint cannot be read, does not fit ``data``, or ``out`` exists.
    """
    weights, trained_with = read_official_checkpoint(path)
    model = BM3.from_data(data, **{**trained_with, **(options or {})})
    model.load_official_state_dict(weights, names or OFFICIAL_NAMES)
    config = replace(config or TrainConfig(), save_features=True)
    check_not_in_use(out)
    check_new_run(out)
    splits = [split for split in ("val", "test") if edges_of(data, split).size(1)]
    with part("rank"):
        tasks = {split: evaluate(model, data, split, mask=config.mask) for split in splits}
    with RunFolder.open(out, model, data, config) as folder:
        folder.begin()
        folder.save_best(model, epoch=0)
        folder.write_metrics(0, tasks.get("val", {}), tasks.get("test", {}))
    return model
