"""``KEY=VALUE`` settings -> training configuration, model options, device."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
import yaml
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from bm3_pyg.errors import ConfigError, nearest
from bm3_pyg.nn import BM3
from bm3_pyg.train.config import TrainConfig

MODEL_OPTIONS = tuple(
    name
    for name, parameter in inspect.signature(BM3.__init__).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name != "encoder"
)
TRAIN_OPTIONS = tuple(field.name for field in fields(TrainConfig))


def split_settings(settings: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """``["num_layers=2", "lr=0.01"]`` -> options of :class:`TrainConfig` and of :class:`~bm3_pyg.BM3`.

    Raises:
        ConfigError: for an unknown key, with the nearest real name, or one given twice.
    """
    training: dict[str, Any] = {}
    model: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set: got {setting!r}, expected KEY=VALUE")
        if key not in (*TRAIN_OPTIONS, *MODEL_OPTIONS):
            raise ConfigError(f"--set: unknown key {key!r}, {nearest(key, (*TRAIN_OPTIONS, *MODEL_OPTIONS))}")
        group = training if key in TRAIN_OPTIONS else model
        if key in group:
            raise ConfigError(f"--set: got {key} twice")
        group[key] = _value(text)
    return training, model


def build_model(data: HeteroData, options: dict[str, Any], seed: int, device: str = "auto") -> BM3:
    """A freshly initialised model, the same for the same seed."""
    target = resolve_device(device)
    seed_everything(seed)
    return BM3.from_data(data, **options).to(target)


def resolve_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device: got {name!r}, expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device: got {name!r}, but PyTorch finds no CUDA device")
    return device


def _value(text: str) -> Any:
    """A number, true, false, null or a list of names; any other text as it is."""
    for number in (int, float):  # YAML 1.1 reads 010 as 8, 20:48 as 1248 and 1e-3 as a string
        try:
            return number(text)
        except ValueError:
            pass
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        value = text
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if value is None or isinstance(value, bool):
        return value
    return text
