"""What a sweep searches: grids of settings, samples of them, and two presets."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from bm3_pyg.errors import ConfigError, check_number, shown
from bm3_pyg.study.sweep import Setting, knows

PUBLISHED = ("num_layers=1,2", "dropout=0.5,0.3", "reg_weight=0.1,0.01")
"""The grid that BM3 was published with, every combination of these."""


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
        chosen += [setting for at, setting in enumerate(own) if at in picked]
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
