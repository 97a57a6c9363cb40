"""A run directory: what is in it, and how it is read back.

``config.yaml`` holds every setting, ``environment.json`` versions, device and data hashes, ``history.jsonl`` a line an
epoch, ``best.pt`` the selected weights, ``last.pt`` all that a resume needs, ``metrics.json`` the result.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg.data import fingerprint, load_dataset, modalities
from bm3_pyg.errors import ConfigError, RunError, one_line
from bm3_pyg.files import append_text, atomic_file, is_taken, make_folder, write_text
from bm3_pyg.models import model_named, option_names
from bm3_pyg.protocols import trains
from bm3_pyg.train.config import RESUMABLE, TrainConfig
from bm3_pyg.train.environment import environment
from bm3_pyg.train.settings import unknown_key

SCHEMA = 1
SECTIONS = {
    "dataset": {"name", "source", "fingerprint", "modalities"},
    "model": {"name", "options"},
    "train": {field.name for field in fields(TrainConfig)},
}


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
        settings = _settings(model, data, config)
        if resume:
            _check_same_run(read_config(path), settings, path)
            begun = trains(model) and (path / "best.pt").exists()
            if begun and not (path / "last.pt").exists():
                raise RunError(f"{path / 'last.pt'}: no such checkpoint, the run cannot be resumed")
        else:
            check_new(path)
        folder = cls(path, settings)
        make_folder(path)
        write_text(path / "config.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        details = {**environment(device), "data": {"fingerprint": settings["dataset"]["fingerprint"]}}
        details["data"]["files"] = getattr(data, "files", {})
        write_text(path / "environment.json", json.dumps(details, indent=2) + "\n")
        return folder

    def has_last(self) -> bool:
        return (self.path / "last.pt").exists()

    def save_last(self, checkpoint: dict[str, Any]) -> None:
        self._save("last.pt", {"schema": SCHEMA, **checkpoint})

    def load_last(self, device: torch.device) -> dict[str, Any]:
        return load_checkpoint(self.path / "last.pt", device)

    def save_best(self, weights: dict[str, Tensor], epoch: int) -> None:
        fingerprint_ = self.config["dataset"]["fingerprint"]
        self._save("best.pt", {"schema": SCHEMA, "fingerprint": fingerprint_, "epoch": epoch, "model": weights})

    def load_best(self, device: torch.device) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = load_checkpoint(self.path / "best.pt", device)["model"]
        return weights

    def append_history(self, record: dict[str, Any]) -> None:
        append_text(self.path / "history.jsonl", json.dumps(record) + "\n")

    def rewind_history(self, epoch: int) -> list[dict[str, Any]]:
        """Forget what was written after ``epoch``, and return the rest."""
        path = self.path / "history.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines()[:epoch] if path.exists() else []
        if len(lines) < epoch:
            raise RunError(f"{path}: {len(lines)} epochs, expected the {epoch} that last.pt has seen")
        write_text(path, "".join(line + "\n" for line in lines))
        return [json.loads(line) for line in lines]

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
    config = read_config(run)
    if data is None:
        if not config["dataset"]["source"]:
            raise RunError(f"{run}: trained on a dataset that was not loaded from a file; pass it as data")
        data = load_dataset(**config["dataset"]["source"])
    if fingerprint(data) != config["dataset"]["fingerprint"]:
        raise RunError(f"{run}: trained on another dataset than {getattr(data, 'name', 'the one given')}")
    model = _build(config["model"], data, run / "config.yaml", options)
    weights = load_checkpoint(run / "best.pt", torch.device("cpu"))["model"]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(f"{run / 'best.pt'}: does not fit config.yaml ({one_line(error)})") from error
    return model.to(device), data


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


def read_config(run: Path) -> dict[str, Any]:
    """``config.yaml`` of a run directory."""
    path = run / "config.yaml"
    if not path.is_file():
        raise RunError(f"{run}: not a run directory (no config.yaml)")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RunError(f"{path}: not YAML ({one_line(error)})") from error
    if not isinstance(config, dict) or config.get("schema") != SCHEMA:
        raise RunError(f"{path}: not the configuration of a run, expected schema {SCHEMA}")
    for section, keys in SECTIONS.items():
        found = config.get(section)
        if not isinstance(found, dict):
            raise RunError(f"{path}: no section {section!r}, expected dataset, model and train")
        if wrong := sorted(keys ^ found.keys()):
            raise RunError(f"{path}: {section}: {wrong[0]!r} is missing or unknown, expected {', '.join(sorted(keys))}")
    return config


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """A checkpoint of this package, read without unpickling anything but tensors and plain values."""
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint")
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise RunError(f"{path}: damaged or not a checkpoint ({one_line(error)})") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("schema") != SCHEMA:
        raise RunError(f"{path}: not a checkpoint of a run, expected schema {SCHEMA}")
    return checkpoint


def _settings(model: nn.Module, data: HeteroData, config: TrainConfig) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "dataset": {
            "name": getattr(data, "name", "dataset"),
            "source": getattr(data, "source", None),
            "fingerprint": fingerprint(data),
            "modalities": {name: feature.size(1) for name, feature in modalities(data).items()},
        },
        "model": {"name": type(model).__name__.lower(), "options": getattr(model, "options", {})},
        "train": asdict(config),
    }


def _check_same_run(saved: dict[str, Any], settings: dict[str, Any], path: Path) -> None:
    if saved["dataset"]["fingerprint"] != settings["dataset"]["fingerprint"]:
        raise RunError(f"{path}: was trained on another dataset ({saved['dataset']['name']}), cannot be resumed")
    for section in ("model", "train"):
        before, now = saved[section], settings[section]
        before, now = ({**s.get("options", {}), **s} for s in (before, now))
        for name in now.keys() - RESUMABLE - {"options"}:
            if before.get(name) != now[name]:
                raise RunError(f"{path}: {name} is {before.get(name)!r} there, got {now[name]!r}; cannot be resumed")
