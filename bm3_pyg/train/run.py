"""A run directory: what is in it, and how it is read back.

``config.yaml`` holds every setting, ``environment.json`` versions, device and data hashes, ``history.jsonl`` a line an
epoch, ``best.pt`` the selected weights, ``last.pt`` all that a resume needs, ``metrics.json`` the result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg.data import load_dataset, modalities, same_fingerprint
from bm3_pyg.errors import ConfigError, RunError, one_line, shown
from bm3_pyg.files import append_text, atomic_file, is_taken, make_folder, write_text
from bm3_pyg.models import model_named, option_names
from bm3_pyg.protocols import trains
from bm3_pyg.train.config import RESUMABLE, TrainConfig
from bm3_pyg.train.environment import environment
from bm3_pyg.train.run_files import SCHEMA, RunFiles, is_finished, read_config
from bm3_pyg.train.same_data import refuse_other_data, told_of
from bm3_pyg.train.settings import unknown_key


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path
    config: dict[str, Any]

    @classmethod
    def open(
        cls, path: Path, model: nn.Module, data: HeteroData, config: TrainConfig, resume: bool = False
    ) -> RunFolder:
        """Start a run in ``path``, or with ``resume`` take up the one there.

        Raises:
            RunError: if ``path`` exists without ``resume``, or holds another run.
            WriteError: if ``path`` cannot be written.
        """
        told = told_of(data)
        settings = _settings(model, data, config, told["fingerprint"])
        if resume:
            saved = read_config(path)
            refuse_other_data(path, saved["dataset"], data, told)
            _check_same_run(saved, settings, path)
            begun = trains(model) and (path / "best.pt").exists()
            if begun and not (path / "last.pt").exists():
                raise RunError(f"{path / 'last.pt'}: no such checkpoint, the run cannot be resumed")
        else:
            check_new(path)
        folder = cls(path, settings)
        make_folder(path)
        write_text(path / "config.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        details = {**environment(device), "data": told}
        write_text(path / "environment.json", json.dumps(details, indent=2) + "\n")
        return folder

    def has_last(self) -> bool:
        return (self.path / "last.pt").exists()

    def save_last(self, checkpoint: dict[str, Any]) -> None:
        settings = _plain({name: self.config[name] for name in ("model", "train")})
        self._save("last.pt", {"schema": SCHEMA, "settings": settings, **checkpoint})

    def load_last(self, device: torch.device) -> dict[str, Any]:
        """What last.pt holds.

        Raises:
            RunError: it is damaged, or config.yaml has other settings than it was written with.
        """
        last = RunFiles(self.path).last(device)
        if "settings" in last:
            saved = {key: {**self.config[key], **last["settings"][key]} for key in ("model", "train")}
            _check_same_settings(saved, self.config, f"{self.path / 'last.pt'}: was written by another run")
        return last

    def save_best(self, weights: dict[str, Tensor], epoch: int) -> None:
        fingerprint_ = self.config["dataset"]["fingerprint"]
        content = {"schema": SCHEMA, "fingerprint": fingerprint_, "epoch": epoch, "model": weights}
        self._save("best.pt", {**content, "settings": _plain(self.config["model"])})

    def load_best(self, device: torch.device) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = RunFiles(self.path).best(device)["model"]
        return weights

    def check_best(self, epoch: int, val: Mapping[str, float], history: Sequence[Mapping[str, Any]]) -> None:
        """Raise :class:`RunError` unless best.pt holds the weights of ``epoch``, with figures ``val``, or later ones.

        Later ones, where the run was stopped between the writing of best.pt and of last.pt: it comes there again.
        """
        if not epoch:
            return
        if history[epoch - 1].get("val", {}) != val:
            raise RunError(f"{self.path / 'last.pt'}: state: best: not the figures of epoch {epoch} in history.jsonl")
        if (found := RunFiles(self.path).best(torch.device("cpu"))["epoch"]) < epoch:
            raise RunError(f"{self.path / 'best.pt'}: of epoch {found}, expected epoch {epoch} as in last.pt")

    def append_history(self, record: dict[str, Any]) -> None:
        append_text(self.path / "history.jsonl", json.dumps(record) + "\n")

    def rewind_history(self, epoch: int) -> list[dict[str, Any]]:
        """Forget what was written after ``epoch``, and return the rest."""
        path = self.path / "history.jsonl"
        records = RunFiles(self.path).history(epoch) if epoch or path.exists() else []
        write_text(path, "".join(json.dumps(record) + "\n" for record in records))
        return records

    def write_metrics(self, best_epoch: int, val: dict[str, float], test: dict[str, float]) -> None:
        metrics = {
            "schema": SCHEMA,
            "dataset": self.config["dataset"]["name"],
            "model": self.config["model"]["name"],
            "seed": self.config["train"]["seed"],
            "best_epoch": best_epoch,
            "val": val,
            "test": test,
        }
        write_text(self.path / "metrics.json", json.dumps(metrics, indent=2) + "\n")

    def _save(self, name: str, content: dict[str, Any]) -> None:
        with atomic_file(self.path / name) as temporary:
            torch.save(content, temporary)


def load_run(
    run: str | Path, *, data: HeteroData | None = None, device: torch.device | str = "cpu", **options: Any
) -> tuple[Any, HeteroData]:
    """The trained model, one of :data:`bm3_pyg.models.MODELS`, and the dataset of a run directory.

    Args:
        run: the directory.
        data: the dataset, where it is not to be loaded from where it was.
        device: where the model goes.
        options: constructor options that a file cannot hold, such as ``encoder``.

    Raises:
        RunError: if the directory is not a finished run, its model was trained on another dataset, or config.yaml names
            another model or option than there are.
    """
    run = Path(run)
    files = RunFiles(run)
    config = files.config()
    if data is None:
        if not config["dataset"]["source"]:
            raise RunError(f"{run}: trained on a dataset that was not loaded from a file; pass it as data")
        data = load_dataset(**config["dataset"]["source"])
    refuse_other_data(run, config["dataset"], data)
    best = files.best(torch.device("cpu"))
    _check_best(best, config, files)
    model = _build(config["model"], data, run / "config.yaml", options)
    if "settings" in best:
        _check_trained_with(best["settings"], config["model"]["name"], model, files.path)
    try:
        model.load_state_dict(best["model"])
    except RuntimeError as error:
        raise RunError(f"{run / 'best.pt'}: does not fit config.yaml ({one_line(error)})") from error
    return model.to(device), data


def _check_best(best: dict[str, Any], config: dict[str, Any], files: RunFiles) -> None:
    """Raise :class:`RunError` unless best.pt is what config.yaml and metrics.json speak of."""
    path, section = files.path / "best.pt", config["model"]
    if not same_fingerprint(best["fingerprint"], config["dataset"]["fingerprint"]):
        raise RunError(f"{path}: trained on another dataset than config.yaml names")
    width = section["options"].get("embedding_dim")  # before anything of that size is made
    if width is not None and not any(width in weights.shape for weights in best["model"].values()):
        raise RunError(f"{path}: does not fit config.yaml (no weights of embedding_dim {width})")
    if is_finished(files.path) and best["epoch"] != (epoch := files.metrics()["best_epoch"]):
        raise RunError(
            f"{path}: of epoch {best['epoch']}, expected epoch {epoch} as in metrics.json; if the run was extended, "
            "resume it to its end"
        )


def _build(section: dict[str, Any], data: HeteroData, path: Path, given: dict[str, Any]) -> Any:
    """The untrained model that a configuration's ``model`` section describes; ``given`` options go before its own.

    Options it does not name have their defaults.
    """
    try:
        known = option_names(section["name"])
        if not isinstance(section["options"], dict):
            raise ConfigError(f"options: got {section['options']!r}, expected a mapping")
        chosen = {**section["options"], **given}
        for key in chosen:
            if key not in known:
                raise ConfigError(unknown_key(str(key), section["name"], known))
        if isinstance(chosen.get("encoder"), str):
            raise RunError(f"{path.parent}: trained with the encoder {chosen['encoder']}; pass one as encoder")
        return model_named(section["name"]).from_data(data, **chosen)
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from error


def check_new(path: Path) -> None:
    """Raise :class:`RunError` unless a run can begin in ``path``."""
    if is_taken(path):
        raise RunError(f"{path}: exists already; resume it, or choose another folder")


def _check_trained_with(settings: dict[str, Any], name: str, model: Any, run: Path) -> None:
    """Raise :class:`RunError` if best.pt tells of another model or option than was built from config.yaml."""
    own = _plain(model.options)
    pairs = [("name", settings["name"], name)]
    pairs += [(key, value, own.get(key, value)) for key, value in settings["options"].items() if key != "encoder"]
    for key, trained, found in pairs:
        if trained != found:
            raise RunError(
                f"{run / 'config.yaml'}: model: {key} is {shown(found)}, best.pt was trained with {trained!r}"
            )


def _plain(settings: Any) -> Any:
    """Settings as config.yaml gives them back: without tuples and the like."""
    return yaml.safe_load(yaml.safe_dump(settings))


def _settings(model: nn.Module, data: HeteroData, config: TrainConfig, fingerprint: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "dataset": {
            "name": getattr(data, "name", "dataset"),
            "source": getattr(data, "source", None),
            "fingerprint": fingerprint,
            "modalities": {name: feature.size(1) for name, feature in modalities(data).items()},
        },
        "model": {"name": type(model).__name__.lower(), "options": getattr(model, "options", {})},
        "train": asdict(config),
    }


def _check_same_run(saved: dict[str, Any], settings: dict[str, Any], path: Path) -> None:
    _check_same_settings(saved, settings, str(path))


def _check_same_settings(saved: dict[str, Any], settings: dict[str, Any], where: str) -> None:
    for section in ("model", "train"):
        before, now = saved[section], settings[section]
        before, now = ({**s.get("options", {}), **s} for s in (before, now))
        for name in now.keys() - RESUMABLE - {"options"}:
            if before.get(name) != now[name]:
                raise RunError(f"{where}: {name} is {before.get(name)!r} there, got {now[name]!r}; cannot be resumed")
