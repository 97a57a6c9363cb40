"""``bm3 models``: which models there are, and what ``--set`` takes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

from bm3_pyg.cli.options import add_verb
from bm3_pyg.names import MODEL_NAMES, MODELS, Option, settings_of, summary, training_options

MODELS_HELP = f"{', '.join(MODELS)}, or module:Class of your own"


def add_models(verbs: Any) -> None:
    """The command that lists models and their settings."""
    command = add_verb(
        verbs, "models", _models, "list the models, or what --set takes for one of them", "bm3 models freedom"
    )
    command.add_argument("model", choices=MODEL_NAMES, nargs="?", metavar="NAME", help=MODELS_HELP)
    command.add_argument("--json", action="store_true", help="print JSON")


def settings_help(model: str) -> str:
    """What ``--set`` takes for a model: each key with its default, its range and what it means."""
    own = settings_of(model)
    parts = (
        [f"--set for {model} (KEY, default, range, meaning):", *_lines(own)] if own else [f"{model} has no options."]
    )
    return "\n".join([*parts, "", "--set for training:", *_lines(training_options())])


def _lines(options: Iterable[Option]) -> list[str]:
    rows = [(option.name, _default(option), option.range, option.meaning) for option in options]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [
        f"  {name:<{widths[0]}}  {default:<{widths[1]}}  {words}; {meaning}" for name, default, words, meaning in rows
    ]


def _default(option: Option) -> str:
    return "all" if option.name == "modalities" else option.default or ""


def _models(args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps({name: _plain(name) for name in ([args.model] if args.model else MODELS)}, indent=2))
    elif args.model is not None:
        print(f"{summary(args.model)}\n\n{settings_help(args.model)}")
    else:
        width = max(map(len, MODELS))
        print("\n".join(f"{name:<{width}}  {summary(name)}" for name in MODELS))


def _plain(model: str) -> dict[str, Any]:
    keys = {
        part: [
            {"key": option.name, "default": _default(option), "range": option.range, "meaning": option.meaning}
            for option in options
        ]
        for part, options in (("model", settings_of(model)), ("training", training_options()))
    }
    return {"summary": summary(model), **keys}
