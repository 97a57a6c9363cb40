"""A run from what a command line says: arguments of ``load_dataset``, ``KEY=VALUE`` settings, a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bm3_pyg.errors import ConfigError, RunError
from bm3_pyg.files import check_not_in_use, check_place, make_folder, writing
from bm3_pyg.names import check_model
from bm3_pyg.timeline import part
from bm3_pyg.train.run_files import check_new_run, read_config
from bm3_pyg.train.settings import (
    TrainConfig,
    build_model,
    check_device,
    check_options,
    split_settings,
    with_preset,
)
from bm3_pyg.waiting import waiting

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from bm3_pyg.train.loop import TrainResult


@dataclass(frozen=True)
class RunRequest:
    """A run to be made, or gone on with.

    Attributes:
        source: arguments of :func:`bm3_pyg.load_dataset`; by default those of the run to resume.
        out: folder of the run; by default ``runs/NAME`` of the dataset, numbered if that exists.
        model: name of the model; by default that of the run to resume, else ``bm3``.
        settings: ``KEY=VALUE`` texts of the model's options and of training, before those of the run to resume.
        preset: one of :data:`bm3_pyg.train.settings.PRESETS`, before which ``settings`` go.
        seed: of weights, batches and masks, before that of ``settings``.
        resume: go on with the run in ``out``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        tensorboard: write TensorBoard events into the run.
        command: the command line, to be recorded.
    """

    source: Mapping[str, Any] | None = None
    out: str | Path | None = None
    model: str | None = None
    settings: Sequence[str] = ()
    preset: str | None = None
    seed: int | None = None
    resume: bool = False
    device: str = "auto"
    tensorboard: bool = False
    command: Sequence[str] = ()


@dataclass(frozen=True)
class TrainedRun:
    """What :func:`train_run` came to: the folder, the result, the trained model, and what it was trained with.

    ``data`` has no item features any more: they are the model's.
    """

    out: Path
    result: TrainResult
    model: Any
    data: HeteroData
    config: TrainConfig


def train_run(request: RunRequest) -> TrainedRun:
    """Load the dataset, build the model, train it and test it once, as :func:`bm3_pyg.fit` does.

    What can be known to be wrong before PyTorch is loaded is told before.

    Raises:
        ConfigError: no dataset is named, or a setting is unknown, out of range or not for the model.
        RunError: ``out`` is in use, exists without ``resume``, or holds no run to resume.
        BM3Error: as :func:`bm3_pyg.load_dataset` and :func:`bm3_pyg.fit`.
    """
    before = _run_before(request)
    source = before.get("dataset", {}).get("source") if request.source is None else request.source
    if not source:
        raise ConfigError("bm3 train: expected a dataset, a PATH or NAME")
    name = _model_name(request, before)
    config, options = _settings(request, before, name)
    check_device(request.device)

    from bm3_pyg.data import load_dataset

    with part("read"), waiting(f"reading {source['source']}"):
        data = load_dataset(**source)

    from bm3_pyg.train.loop import fit

    with part("build"):
        model = build_model(data, options, config.seed, request.device, name)
    out = Path(request.out) if request.out else _fresh_folder(Path("runs") / data.name)
    callbacks = []
    if request.tensorboard:
        from bm3_pyg.train.progress import tensorboard

        callbacks.append(tensorboard(out / "tensorboard"))
    result = fit(
        model,
        data,
        config,
        out,
        resume=request.resume,
        callbacks=callbacks,
        command=request.command,
        keep_features=False,
    )
    return TrainedRun(out, result, model, data, config)


def _run_before(request: RunRequest) -> dict[str, Any]:
    """The configuration of the run to resume, empty for a new one; a folder that is named can be written."""
    before: dict[str, Any] = {}
    if request.out is None:
        if request.resume:
            raise ConfigError("--resume: expected --out with the run to resume")
        return before
    check_not_in_use(request.out)
    if request.resume:
        before = read_config(Path(request.out))
    else:
        check_new_run(request.out)
    check_place(request.out)
    return before


def _model_name(request: RunRequest, before: Mapping[str, Any]) -> str:
    name = str(request.model or before.get("model", {}).get("name", "bm3"))
    if request.model is None:
        try:
            check_model(name)
        except ConfigError as error:
            raise RunError(f"{request.out}/config.yaml: {error}") from error
    if request.preset is not None and name != "bm3":
        raise ConfigError(f"--preset: is for bm3, got --model {name}")
    return name


def _settings(request: RunRequest, before: Mapping[str, Any], model: str) -> tuple[TrainConfig, dict[str, Any]]:
    """The settings of training, and the model's options."""
    settings = request.settings if request.preset is None else with_preset(request.preset, request.settings)
    training, options = split_settings(settings, model)
    check_options(model, options)
    if request.seed is not None:
        training["seed"] = request.seed
    config = TrainConfig(**{**before.get("train", {}), **training})
    return config, {**before.get("model", {}).get("options", {}), **options}


def _fresh_folder(path: Path) -> Path:
    """``path``, or with the first free number after it, made now, so that no other run takes the same."""
    number, fresh = 1, path
    make_folder(path.parent)
    check_place(path)
    with writing(path):
        while True:
            try:
                fresh.mkdir()
            except FileExistsError:
                number += 1
                fresh = path.with_name(f"{path.name}-{number}")
            else:
                return fresh
