"""What a sweep searches: models with settings, as grids, samples of them and two presets, each with every seed."""

from __future__ import annotations

import itertools
import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bm3_pyg.errors import ConfigError, RunError, check_number, shown
from bm3_pyg.train import plain
from bm3_pyg.train.plain import SCHEMA
from bm3_pyg.train.run_files import source
from bm3_pyg.train.settings import TrainConfig, check_options, split_settings

PUBLISHED = ("num_layers=1,2", "dropout=0.5,0.3", "reg_weight=0.1,0.01")
"""The grid that BM3 was published with, every combination of these."""


@dataclass(frozen=True)
class Setting:
    """A model with its ``KEY=VALUE`` settings, and what is done to the dataset's features before (for ablations)."""

    model: str
    settings: tuple[str, ...] = ()
    corrupt: str | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """The name of its folder."""
        corrupt = () if self.corrupt is None else (f"corrupt={self.corrupt}",)
        return "_".join((self.model.replace(":", "."), *self.settings, *corrupt)).replace("/", "-")

    def __str__(self) -> str:
        corrupt = () if self.corrupt is None else (f"features {self.corrupt}",)
        return self.label or " ".join((self.model, *self.settings, *corrupt))


@dataclass(frozen=True)
class Sweep:
    """What is searched: ``settings`` x ``seeds`` on the dataset that ``load_dataset(**source)`` gives.

    Attributes:
        fixed: ``KEY=VALUE`` settings of every run; a model takes those that it knows.
        arguments: of the command that it was asked for by, but for the dataset and the folder: options and their
            values, ``{"--grid": ["num_layers=1,2"], "--seeds": ["3"]}``. Empty where it was not asked for by a command.
    """

    source: Mapping[str, Any]
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    fixed: tuple[str, ...] = ()
    device: str = "auto"
    arguments: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def folder(self, out: Path, setting: Setting, seed: int) -> Path:
        """The run folder of a setting and a seed."""
        return out / setting.name / f"seed-{seed}"

    def check(self) -> None:
        """Raise :class:`ConfigError` if a setting stands twice, is unknown to its model or out of range."""
        names = [setting.name for setting in self.settings]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"sweep: {min(twice)} stands twice in the grid, expected each setting once")
        for setting in self.settings:
            training, options = self.options(setting)
            TrainConfig(**training)
            check_options(setting.model, options)

    def options(self, setting: Setting) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options of training and of the model; the setting's own come before the fixed ones."""
        own = {text.partition("=")[0] for text in setting.settings}
        fixed = []
        for text in self.fixed:
            if text.partition("=")[0] in own:
                continue
            try:
                split_settings([text], setting.model)
            except ConfigError:
                if not any(knows(other.model, text) for other in self.settings):
                    raise
            else:
                fixed.append(text)
        return split_settings([*fixed, *setting.settings], setting.model)

    def plain(self) -> dict[str, Any]:
        """What sweep.yaml holds."""
        return {
            "schema": SCHEMA,
            "source": dict(self.source),
            "settings": [{**asdict(setting), "settings": list(setting.settings)} for setting in self.settings],
            "seeds": list(self.seeds),
            "fixed": list(self.fixed),
            "device": self.device,
            "arguments": {option: list(values) for option, values in self.arguments.items()},
        }


def is_sweep(folder: Path) -> bool:
    """Whether there is a sweep in ``folder``, sound or not."""
    return any(os.path.lexists(folder / name) for name in ("sweep.yaml", "results.json"))


def read_sweep(out: Path) -> Sweep:
    """The sweep that a folder was made by.

    Raises:
        RunError: the folder holds none, or sweep.yaml is damaged.
    """
    path = out / "sweep.yaml"
    texts = plain.listing(plain.text)
    setting = {"model": plain.text, "settings": texts, "corrupt": plain.maybe(plain.text), "label": plain.string}
    check = plain.mapping(
        {
            "schema": plain.exactly(SCHEMA),
            "source": source(),
            "settings": plain.listing(plain.mapping(setting)),
            "seeds": plain.listing(plain.integer(0, 1 << 32)),
            "fixed": texts,
            "device": plain.text,
        },
        {"arguments": plain.mapping_of(plain.listing(plain.string))},
    )
    sweep = check(plain.parse_yaml(plain.to_text(plain.read_bytes(path), path), str(path)), str(path))
    del sweep["schema"]
    for key in ("settings", "seeds"):
        values = [str(value) for value in sweep[key]]
        if len(set(values)) < len(values):
            raise RunError(f"{path}: {key}: got one twice, expected different ones")
    for one in sweep["settings"]:
        if not re.fullmatch(r"\w[\w-]*|\w+(\.\w+)*:\w+", one["model"]):
            raise RunError(f"{path}: settings: got the model {plain.short(one['model'])}, expected a model's name")
    settings = tuple(Setting(**{**one, "settings": tuple(one["settings"])}) for one in sweep["settings"])
    return Sweep(**{**sweep, "settings": settings, "seeds": tuple(sweep["seeds"]), "fixed": tuple(sweep["fixed"])})


def settings_for(
    models: Sequence[str],
    axes: Sequence[str] = (),
    preset: str | None = None,
    count: int | None = None,
    modalities: Sequence[str] = (),
) -> tuple[Setting, ...]:
    """What is asked for: a grid, or a preset for BM3, and of either a random sample.

    Args:
        models: names of models.
        axes: of the :func:`grid`.
        preset: ``published`` for :data:`PUBLISHED`, ``ablation`` for :func:`ablations`.
        count: settings of each model to :func:`sample`.
        modalities: of the dataset, for the ablations.

    Raises:
        ConfigError: a preset with a grid or with other models than BM3, or as :func:`grid` and :func:`sample` do.
    """
    if preset and axes:
        raise ConfigError("--preset and --grid: got both, expected one of them")
    if preset and list(models) != ["bm3"]:
        raise ConfigError(f"--preset: is for bm3 alone, got --models {' '.join(models)}")
    settings = ablations(modalities) if preset == "ablation" else grid(models, PUBLISHED if preset else axes)
    return settings if count is None else sample(settings, count)


def grid(models: Sequence[str], axes: Sequence[str]) -> tuple[Setting, ...]:
    """Every combination of values for every model.

    Args:
        models: names of models.
        axes: ``"KEY=VALUE,VALUE"`` for every model that has the key, or ``"MODEL.KEY=VALUE,VALUE"`` for one of them.

    Raises:
        ConfigError: an axis is not of that form, is given twice for a model, or no model has its key.
    """
    values: dict[str, dict[str, list[str]]] = {model: {} for model in models}
    for axis in axes:
        key, separator, text = axis.partition("=")
        if not separator or not text:
            raise ConfigError(f"--grid: got {shown(axis)}, expected KEY=VALUE,VALUE or MODEL.KEY=VALUE,VALUE")
        owner, dot, own_key = key.rpartition(".")
        if dot and owner not in values:
            raise ConfigError(f"--grid: got {shown(key)}, but {owner} is not among the models ({', '.join(models)})")
        takers = [owner] if dot else [model for model in models if knows(model, f"{key}={text.split(',')[0]}")]
        if not takers:
            raise ConfigError(f"--grid: none of the models ({', '.join(models)}) has a setting {key!r}")
        for model in takers:
            if own_key in values[model]:
                raise ConfigError(f"--grid: got {own_key} twice for {model}")
            values[model][own_key] = [f"{own_key}={value}" for value in text.split(",")]
    return tuple(
        Setting(model, combination) for model in models for combination in itertools.product(*values[model].values())
    )


def sample(settings: Sequence[Setting], count: int, seed: int = 0) -> tuple[Setting, ...]:
    """``count`` settings of each model at random, without repeats; all of a model that has fewer."""
    check_number("--random", count, int, 1)
    rng = random.Random(seed)
    chosen: list[Setting] = []
    for model in dict.fromkeys(setting.model for setting in settings):
        own = [setting for setting in settings if setting.model == model]
        picked = set(rng.sample(range(len(own)), min(count, len(own))))
        chosen += [setting for place, setting in enumerate(own) if place in picked]
    return tuple(chosen)


def ablations(modalities: Sequence[str]) -> tuple[Setting, ...]:
    """BM3 as published and with one thing changed: do the modalities help, and through which loss?"""
    rows = [Setting("bm3", label="BM3 as published")]
    if len(modalities) > 1:
        for name in modalities:
            rest = ", ".join(other for other in modalities if other != name)
            rows.append(Setting("bm3", (f"modalities=[{rest}]",), label=f"without {name}"))
    return (
        *rows,
        Setting("bm3", ("modalities=[]",), label="without any feature"),
        Setting("bm3", corrupt="shuffled", label="features shuffled between items"),
        Setting("bm3", corrupt="random", label="random features"),
        Setting("bm3", ("align_weight=0", "mask_weight=2.0"), label="alignment off"),
        Setting("bm3", ("mask_weight=0",), label="masking off"),
        Setting("bm3", ("freeze_features=true",), label="features frozen"),
    )


def knows(model: str, text: str) -> bool:
    """Whether a model, or training, has the key of a ``KEY=VALUE`` setting."""
    try:
        split_settings([text], model)
    except ConfigError:
        return False
    return True
