"""A run's trained model, read back with its dataset."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch_geometric.data import HeteroData

from bm3_pyg.data import load_dataset, same_fingerprint
from bm3_pyg.errors import ConfigError, RunError, nearest, shown
from bm3_pyg.models import MODELS, model_named, name_of
from bm3_pyg.names import is_own
from bm3_pyg.protocols import unwrapped
from bm3_pyg.train.checkpoint import match_precision
from bm3_pyg.train.run_files import RunFiles, is_finished
from bm3_pyg.train.same_data import check_same_data
from bm3_pyg.train.settings import check_options, plain_settings
from bm3_pyg.train.weights import load_best_weights


def load_run(
    run: str | Path,
    *,
    data: HeteroData | None = None,
    device: torch.device | str = "cpu",
    model: nn.Module | None = None,
    **options: Any,
) -> tuple[Any, HeteroData]:
    """The trained model and the dataset of a run directory.

    Of trained features that no score is computed from, the model has the rows of items without training interactions,
    unless it was trained with ``save_features=true``: what reads others raises :class:`~bm3_pyg.errors.ConfigError`.

    A model called ``module:Class`` is imported, from the current folder or Python's path: its module's code is run.

    Args:
        run: the directory.
        data: the dataset, where it is not to be loaded from where it was.
        device: where the model goes.
        model: what the weights are loaded into, for a class that cannot be imported, as one of a script; by default
            a model is built as config.yaml says.
        options: constructor options that a file cannot hold, such as ``encoder``.

    Raises:
        RunError: if the directory is not a run with weights, its model was trained on another dataset, config.yaml
            names another model or option than there are, or its files do not go together. That a run is not finished
            is logged.
    """
    run = Path(run)
    files = RunFiles(run)
    config = files.config()
    if data is None:
        if not config["dataset"]["source"]:
            raise RunError(f"{run}: trained on a dataset that was not loaded from a file; pass it as data")
        data = load_dataset(**config["dataset"]["source"])
    check_same_data(run, config["dataset"], data)
    best = files.best(torch.device("cpu"))
    _check_goes_together(best, config, files)
    if not is_finished(run):
        logging.getLogger("bm3_pyg.runs").warning(
            "%s: not finished; its best weights so far are those of epoch %d", run, best["epoch"]
        )
    name = config["model"]["name"]
    if model is None:
        if name not in MODELS and not is_own(name):
            raise RunError(
                f"{run / 'config.yaml'}: model: got {name!r}, {nearest(name, MODELS)}; if it is a class of your own, "
                "pass one as model"
            )
        model = _build(config["model"], data, run / "config.yaml", options)
    else:
        model = unwrapped(model)
        if name_of(model, name) != name:
            raise RunError(f"{run}: trained with {name}, got a {name_of(model)}")
    assert model is not None
    if "settings" in best:
        _check_trained_with(best["settings"], name, model, files.path)
    match_precision(model, best["model"])
    load_best_weights(model, best, run / "best.pt")
    return model.to(device), data


def _check_goes_together(best: dict[str, Any], config: dict[str, Any], files: RunFiles) -> None:
    """Raise :class:`RunError` unless best.pt is what config.yaml and metrics.json speak of."""
    path, section = files.path / "best.pt", config["model"]
    if not same_fingerprint(best["fingerprint"], config["dataset"]["fingerprint"]):
        raise RunError(f"{path}: trained on another dataset than config.yaml names")
    width = section["options"].get("embedding_dim")  # before anything of that size is made
    if width is not None and not any(width in getattr(weights, "shape", ()) for weights in best["model"].values()):
        raise RunError(f"{path}: does not fit config.yaml (no weights of embedding_dim {width})")
    if is_finished(files.path):
        files.check_epoch(best["epoch"])


def _build(section: dict[str, Any], data: HeteroData, path: Path, given: dict[str, Any]) -> Any:
    """The untrained model that a configuration's ``model`` section describes; ``given`` options go before its own.

    Options it does not name have their defaults.
    """
    chosen = {**section["options"], **given}
    try:
        check_options(section["name"], chosen)
        if isinstance(chosen.get("encoder"), str):
            raise RunError(f"{path.parent}: trained with the encoder {chosen['encoder']}; pass one as encoder")
        return model_named(section["name"]).from_data(data, **chosen)
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from error


def _check_trained_with(settings: dict[str, Any], name: str, model: Any, run: Path) -> None:
    """Raise :class:`RunError` if best.pt tells of another model or option than was built from config.yaml."""
    own = plain_settings(getattr(model, "options", {}))
    pairs = [("name", settings["name"], name)]
    pairs += [(key, value, own.get(key, value)) for key, value in settings["options"].items() if key != "encoder"]
    for key, trained, built in pairs:
        if trained != built:
            raise RunError(
                f"{run / 'config.yaml'}: model: {key} is {shown(built)}, best.pt was trained with {shown(trained)}"
            )
