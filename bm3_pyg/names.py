"""What the commands and the library both have to know of models and settings, read without importing PyTorch.

Names, defaults and meanings of settings are those of the constructors' signatures and docstrings, read from the source;
ranges stand here, and constructors check against them.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType, ModuleType
from typing import Any

from bm3_pyg.errors import ConfigError, check_number, nearest, one_line, shown

MODELS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "bm3": ("models/bm3.py", "BM3"),
        "popularity": ("models/popularity.py", "Popularity"),
        "itemknn": ("models/itemknn.py", "ItemKNN"),
        "bprmf": ("models/bprmf.py", "BPRMF"),
        "lightgcn": ("models/lightgcn.py", "LightGCN"),
        "vbpr": ("models/vbpr.py", "VBPR"),
        "freedom": ("models/freedom.py", "FREEDOM"),
    }
)
"""Every model by its name in ``config.yaml`` and for ``bm3 train --model``: its file and class."""

SELECTION = "recall@20"
"""The validation metric that epochs and settings are selected by."""

SPLITS = ("train", "val", "test")
"""The parts of a dataset's interactions; their codes are 0, 1 and 2."""


class ModelNames(tuple[str, ...]):
    """The names of :data:`MODELS`; ``module:Class``, a class of one's own, counts as one of them."""

    def __contains__(self, name: object) -> bool:
        return is_own(name) or super().__contains__(name)


MODEL_NAMES = ModelNames(MODELS)

SPLIT_RULES = ("random", "leave-one-out", "time", "global-time", "cold-items", "label")
"""Ways to hold interactions out, by their names for ``--split``."""

LIST_SUFFIXES = (".parquet", ".csv", ".jsonl")
"""What lists are written as."""

TRAINING = ("train/settings.py", "TrainConfig")
NO_SETTINGS = frozenset({"encoder"})
"""Options that a text cannot give: modules."""

WHOLE = 2**31
"""More than any count; what is below fits every integer that is computed with."""

LARGE = 3e38
"""What float32 can hold, nearly."""

RANGES: Mapping[str, tuple[type, float, float]] = MappingProxyType(
    {
        "embedding_dim": (int, 1, 4097),
        "num_layers": (int, 0, 101),
        "item_layers": (int, 0, 101),
        "neighbours": (int, 1, 10_001),
        "item_neighbours": (int, 0, 10_001),
        "dropout": (float, 0, 1),
        "pruning": (float, 0, 1),
        "image_weight": (float, 0, LARGE),
        "shrinkage": (float, 0, LARGE),
        "reg_weight": (float, 0, LARGE),
        "align_weight": (float, 0, LARGE),
        "mask_weight": (float, 0, LARGE),
        "mirror_weight": (float, 0, LARGE),
        "uniformity_weight": (float, 0, LARGE),
        "feature_weight": (float, 0, LARGE),
        "max_epochs": (int, 1, WHOLE),
        "min_epochs": (int, 0, WHOLE),
        "patience": (int, 1, WHOLE),
        "batch_size": (int, 1, WHOLE),
        "lr": (float, 0, LARGE),
        "eval_every": (int, 1, WHOLE),
        "seed": (int, 0, 2**32),
        "checkpoint_seconds": (float, 0, LARGE),
    }
)
"""Type, least value and the value that all are below, of every setting that is a number."""
MAY_BE_NONE = frozenset({"mask_weight"})
CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType({"mask": ("train", "seen")})
FLAGS = frozenset({"freeze_features", "normalize_features", "save_features"})
WORDS: Mapping[str, str] = MappingProxyType(
    {"modalities": "a list of names such as [image,text]", "by": "interactions or a modality's name"}
)
"""What settings that are neither numbers, choices nor flags may be; whether they fit depends on the dataset."""


@dataclass(frozen=True)
class Option:
    """A setting: its name, its default as ``--set`` takes it (None where one must be given) and what it means."""

    name: str
    default: str | None
    meaning: str

    @property
    def range(self) -> str:
        """What it may be, in words."""
        if self.name in RANGES:
            kind, low, high = RANGES[self.name]
            if high >= WHOLE:
                words = f"{low:g} or more"
            else:
                words = f"{low} to {int(high) - 1}" if kind is int else f"{low:g} to below {high:g}"
            return words + (", or null" if self.name in MAY_BE_NONE else "")
        if self.name in FLAGS:
            return "true or false"
        return " or ".join(CHOICES[self.name]) if self.name in CHOICES else WORDS.get(self.name, "any value")


def check_option(name: str, value: object) -> None:
    """Raise :class:`ConfigError` if ``value`` cannot be that of the setting ``name``, whatever the dataset."""
    if name in RANGES and not (value is None and name in MAY_BE_NONE):
        check_number(name, value, *RANGES[name])
    elif name in FLAGS and not isinstance(value, bool):
        raise ConfigError(f"{name}: got {shown(value)}, expected true or false")
    elif name in CHOICES and value not in CHOICES[name]:
        raise ConfigError(f"{name}: got {shown(value)}, expected {' or '.join(CHOICES[name])}")


def check_model(name: object) -> None:
    """Raise :class:`ConfigError` if there is no model called ``name``, or :func:`own_class` refuses it."""
    if is_own(name):
        own_class(str(name))
    elif not isinstance(name, str) or name not in MODELS:
        raise ConfigError(f"model: got {shown(name)}, {nearest(str(name), MODELS)}")


def is_own(name: object) -> bool:
    """Whether this is how a class of one's own is called, ``module:Class``."""
    return isinstance(name, str) and ":" in name


def own_class(name: str) -> Any:
    """The class called ``module:Class``, of a module in the current folder or on Python's path.

    Raises:
        ConfigError: there is none, the module cannot be imported, or the class is no recommender made from data.
    """
    module_name, _, class_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), class_name)):
        raise ConfigError(f"model: got {shown(name)}, expected module:Class such as my_module:MyModel")
    module = _imported(module_name)
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type):
        likely = [key for key, value in vars(module).items() if isinstance(value, type) and hasattr(value, "scorer")]
        raise ConfigError(
            f"model: {module_name} has no class {class_name!r}, "
            + (nearest(class_name, likely) if likely else "nor any recommender")
        )
    needed = ["scorer", "from_data", *(["options"] if keyword_options(cls) else [])]
    if lacking := [method for method in needed if not hasattr(cls, method)]:
        raise ConfigError(
            f"model: {name} has no {lacking[0]}, expected a recommender, such as a subclass of "
            "bm3_pyg.nn.RecommenderModel"
        )
    return cls


def _imported(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"model: no module {error.name!r} in the current folder or on Python's path") from None
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        place = next((f"{at.filename}, line {at.lineno}: " for at in frames if "importlib" not in at.filename), "")
        raise ConfigError(
            f"model: module {name!r} cannot be imported: {place}{type(error).__name__}: {one_line(error)}"
        ) from error


@cache
def model_options(model: str) -> tuple[Option, ...]:
    """The options of a model: its constructor's keyword-only arguments.

    Raises:
        ConfigError: if there is no such model.
    """
    check_model(model)
    if is_own(model):
        own = own_class(model)
        return _options(own.__doc__, {name: as_text(default) for name, default in keyword_options(own).items()})
    file, name = MODELS[model]
    cls = _class(file, name)
    init = next(node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    defaults = {
        argument.arg: None if default is None else _written(default, file)
        for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
    }
    return _options(ast.get_docstring(cls), defaults)


def keyword_options(cls: type) -> dict[str, Any]:
    """The keyword-only arguments of a class's constructor with their defaults: what its options are."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    return {key.name: key.default for key in parameters if key.kind is key.KEYWORD_ONLY}


@cache
def training_options() -> tuple[Option, ...]:
    """The settings of training: the fields of :class:`bm3_pyg.TrainConfig`."""
    cls = _class(*TRAINING)
    fields = [node for node in cls.body if isinstance(node, ast.AnnAssign)]
    defaults = {ast.unparse(node.target): _written(node.value, TRAINING[0]) for node in fields if node.value}
    return _options(ast.get_docstring(cls), defaults)


def settings_of(model: str) -> tuple[Option, ...]:
    """What ``--set`` takes for a model, beside the settings of training."""
    return tuple(option for option in model_options(model) if option.name not in NO_SETTINGS)


def summary(model: str) -> str:
    """A model in a line."""
    check_model(model)
    described = own_class(model).__doc__ if is_own(model) else ast.get_docstring(_tree(MODELS[model][0]))
    return (described or model).strip().split("\n")[0]


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse(files("bm3_pyg").joinpath(file).read_text(encoding="utf-8"))


def _class(file: str, name: str) -> ast.ClassDef:
    return next(node for node in _tree(file).body if isinstance(node, ast.ClassDef) and node.name == name)


def _written(default: ast.expr, file: str) -> str:
    """A default as one would write it in ``KEY=VALUE``; the name of a constant of the module stands for its value."""
    constants = {ast.unparse(node.targets[0]): node.value for node in _tree(file).body if isinstance(node, ast.Assign)}
    return as_text(ast.literal_eval(constants.get(ast.unparse(default), default))) or ""


def as_text(default: object) -> str | None:
    """A default as one would write it in ``KEY=VALUE``; None if there is none."""
    if default is None or isinstance(default, bool):
        return {None: "null", True: "true", False: "false"}[default]
    return None if default is inspect.Parameter.empty else str(default)


def _options(docstring: str | None, defaults: Mapping[str, str | None]) -> tuple[Option, ...]:
    meanings = _meanings(inspect.cleandoc(docstring or ""))
    return tuple(Option(name, default, meanings.get(name, "")) for name, default in defaults.items())


def _meanings(docstring: str) -> dict[str, str]:
    """What the section ``Args`` or ``Attributes`` of a docstring says of each name, as plain text on one line."""
    section = re.search(r"^(?:Args|Attributes):\n((?:[ \t]+.*\n?|\n)+)", docstring, flags=re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", section[1] if section else "", flags=re.MULTILINE)
    return {name: _plain(" ".join(text.split())) for name, text in entries}


def _plain(text: str) -> str:
    text = re.sub(r":(?:class|func|mod|meth):`~?([^`]*)`", lambda match: match[1].rpartition(".")[2], text)
    text = re.sub(r":math:`([^`]*)`", lambda match: match[1].replace("\\", ""), text)
    return text.replace("``", "")
