"""``KEY=VALUE`` settings -> training configuration, model options, device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
import yaml
from torch_geometric.data import HeteroData

from bm3_pyg.errors import ConfigError, nearest
from bm3_pyg.models import model_named, option_names
from bm3_pyg.train.config import TrainConfig
from bm3_pyg.train.numbers import seeded

PRESETS = {"plus": ("num_layers=2", "align_weight=0", "mask_weight=2.0")}
"""Settings of BM3 beyond the paper, by name. ``plus``: two layers, and the features' masking loss without alignment."""

TRAIN_OPTIONS = tuple(field.name for field in fields(TrainConfig))


def split_settings(settings: Sequence[str], model: str = "bm3") -> tuple[dict[str, Any], dict[str, Any]]:
    """``["num_layers=2", "lr=0.01"]`` -> options of :class:`TrainConfig` and of the model of that name.

    Raises:
        ConfigError: for an unknown model or key, with the nearest real name, or a key given twice.
    """
    model_options = tuple(name for name in option_names(model) if name != "encoder")  # a module, no setting
    training: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set: got {setting!r}, expected KEY=VALUE")
        if key not in (*TRAIN_OPTIONS, *model_options):
            raise ConfigError(f"--set: {unknown_key(key, model, (*TRAIN_OPTIONS, *model_options))}")
        group = training if key in TRAIN_OPTIONS else chosen
        if key in group:
            raise ConfigError(f"--set: got {key} twice")
        group[key] = _value(text)
    return training, chosen


def with_preset(name: str, settings: Sequence[str]) -> list[str]:
    """The settings of a preset, but for those that ``settings`` sets otherwise, and ``settings``."""
    own = {text.partition("=")[0] for text in settings}
    return [*(text for text in PRESETS[name] if text.partition("=")[0] not in own), *settings]


def build_model(
    data: HeteroData, options: Mapping[str, Any], seed: int, device: str = "auto", model: str = "bm3"
) -> Any:
    """A freshly initialised model of :data:`bm3_pyg.models.MODELS`, the same for the same seed.

    The caller's own random numbers go on as if nothing had been drawn.

    Raises:
        ConfigError: for an unknown model or option, or as the model's constructor does.
    """
    known = option_names(model)
    for key in options:
        if key not in known:
            raise ConfigError(unknown_key(key, model, known))
    target = resolve_device(device)
    with seeded(seed):
        built = model_named(model).from_data(data, **options)
    return built.to(target)


def unknown_key(key: str, model: str, known: Sequence[str]) -> str:
    """What is wrong with a ``key`` that is not one of those ``known`` for this model."""
    if key == "modalities" and not {"modalities", "by"} & set(known):
        return f"unknown key {key!r}, {model} uses no features (known: {', '.join(sorted(known))})"
    return f"unknown key {key!r}, {nearest(key, known) if known else f'{model} has no options'}"


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
