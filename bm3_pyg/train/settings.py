"""The settings of a run: ``KEY=VALUE`` texts -> training configuration, model options, device."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import yaml

from bm3_pyg.errors import ConfigError, nearest, one_line, shown
from bm3_pyg.later import Later
from bm3_pyg.names import check_option, is_own, model_options, settings_of, training_options

if TYPE_CHECKING:
    import torch
    from torch_geometric.data import HeteroData
else:
    torch = Later("torch")


PRESETS = {"plus": ("num_layers=2", "align_weight=0", "mask_weight=2.0")}
"""Settings of BM3 beyond the paper, by name. ``plus``: two layers, and the features' masking loss without alignment."""

TRAIN_OPTIONS = tuple(option.name for option in training_options())


def split_settings(settings: Sequence[str], model: str = "bm3") -> tuple[dict[str, Any], dict[str, Any]]:
    """``["num_layers=2", "lr=0.01"]`` -> options of :class:`TrainConfig` and of the model of that name.

    Raises:
        ConfigError: for an unknown model or key, with the nearest real name, or a key given twice.
    """
    own = tuple(option.name for option in settings_of(model))
    training: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set: got {shown(setting)}, expected KEY=VALUE")
        if key not in (*TRAIN_OPTIONS, *own):
            raise ConfigError(f"--set: {unknown_key(key, model, (*TRAIN_OPTIONS, *own))}")
        group = training if key in TRAIN_OPTIONS else chosen
        if key in group:
            raise ConfigError(f"--set: got {key} twice")
        group[key] = _value(text, any_list=is_own(model) and key not in TRAIN_OPTIONS)
    return training, chosen


def check_options(model: str, options: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError` unless these are options of the model of that name, with values that they can have."""
    known = tuple(option.name for option in model_options(model))
    for name, value in options.items():
        if name not in known:
            raise ConfigError(unknown_key(name, model, known))
        check_option(name, value)


def with_preset(name: str, settings: Sequence[str]) -> list[str]:
    """The settings of a preset, but for those that ``settings`` sets otherwise, and ``settings``."""
    own = {text.partition("=")[0] for text in settings}
    return [*(text for text in PRESETS[name] if text.partition("=")[0] not in own), *settings]


def build_model(
    data: HeteroData, options: Mapping[str, Any], seed: int, device: str = "auto", model: str = "bm3"
) -> Any:
    """A freshly initialised model, by :func:`bm3_pyg.models.model_named`, the same for the same seed.

    The caller's own random numbers go on as if nothing had been drawn.

    Raises:
        ConfigError: for an unknown model or option, or as the model's constructor does.
    """
    from bm3_pyg.models import model_named
    from bm3_pyg.train.numbers import seeded

    check_options(model, options)
    for option in model_options(model):
        if option.default is None and option.name not in (*options, "modalities"):
            raise ConfigError(f"--set: expected {option.name}=VALUE, which has no default in {model}")
    target = resolve_device(device)
    with seeded(seed):
        built = model_named(model).from_data(data, **options)
    return built.to(target)


def plain_settings(settings: Any) -> Any:
    """Settings as config.yaml gives them back: without tuples and the like."""
    try:
        return yaml.safe_load(yaml.safe_dump(settings))
    except yaml.YAMLError as error:
        raise ConfigError(f"model: options: expected plain values ({one_line(error)[:200]})") from None


def unknown_key(key: str, model: str, known: Sequence[str]) -> str:
    """What is wrong with a ``key`` that is not one of those ``known`` for this model."""
    if key == "modalities" and not {"modalities", "by"} & set(known):
        return f"unknown key {key!r}, {model} uses no features (known: {', '.join(sorted(known))})"
    return f"unknown key {key!r}, {nearest(key, known) if known else f'{model} has no options'}"


def resolve_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one, else the CPU."""
    check_device(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device: got {shown(name)}, but PyTorch finds no CUDA device")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device: got {shown(name)}, but PyTorch finds {torch.cuda.device_count()} CUDA devices")
    return device


def check_device(name: str) -> None:
    """Raise :class:`ConfigError` unless ``name`` is written as a device is."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,2})?", name):
        raise ConfigError(f"--device: got {shown(name)}, expected auto, cpu, cuda or cuda:N")


def _value(text: str, any_list: bool = False) -> Any:
    """A number, true, false, null or a list of names, with ``any_list`` of anything; any other text as it is."""
    for number in (int, float):  # YAML 1.1 reads 010 as 8, 20:48 as 1248 and 1e-3 as a string
        try:
            return number(text)
        except ValueError:
            pass
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        value = text
    if isinstance(value, list) and (any_list or all(isinstance(item, str) for item in value)):
        return value
    if value is None or isinstance(value, bool):
        return value
    return text


RESUMABLE = frozenset({"max_epochs", "min_epochs", "patience", "checkpoint_seconds"})
"""Settings that may change when a run is resumed; any other would make it another run."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the defaults are the published ones.

    Attributes:
        max_epochs: passes over the training interactions at most.
        min_epochs: no early stop before this many epochs.
        patience: stop after this many evaluations in a row without a higher validation Recall@20.
        batch_size: interactions in a step; the short last batch is kept.
        lr: learning rate of Adam.
        eval_every: epochs between evaluations.
        mask: what evaluation hides, ``train`` or ``seen`` (see :func:`bm3_pyg.evaluate`).
        seed: seed of the batch order and of the dropout masks.
        checkpoint_seconds: seconds between two writings of ``last.pt``, at least.
        save_features: ``best.pt`` holds trained feature tables whole, and so does the trained model. By default, of
            those that no score is computed from it has the rows of items without training interactions.

    Raises:
        ConfigError: if a value is of the wrong type or out of range.
    """

    max_epochs: int = 1000
    min_epochs: int = 0
    patience: int = 20
    batch_size: int = 2048
    lr: float = 1e-3
    eval_every: int = 1
    mask: str = "train"
    seed: int = 0
    checkpoint_seconds: float = 300
    save_features: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            check_option(field.name, getattr(self, field.name))
