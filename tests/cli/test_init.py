"""Help, and every kind of wrong command."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bm3_pyg import names
from bm3_pyg.cli import _parser
from bm3_pyg.cli.options import SOURCE_HELP
from bm3_pyg.data import PLANTED
from bm3_pyg.data import text as encoder
from bm3_pyg.data.amazon import CATEGORIES
from bm3_pyg.data.corrupt import CORRUPTIONS
from bm3_pyg.data.export import FORMATS
from bm3_pyg.models import MODELS
from bm3_pyg.study.selection import PROTOCOLS
from bm3_pyg.train.settings import PRESETS

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., None]

VERBS = [
    *("models", "train", "evaluate", "recommend", "similar", "sweep", "report", "import-checkpoint", "export"),
    *("data describe", "data prepare"),
]


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(bm3: Run, verb: str) -> None:
    code, out, _ = bm3(*verb.split(), "--help")
    assert code == 0
    assert f"example:\n  bm3 {verb}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "expected a dataset"),
        (["train", "dmo"], "dmo"),
        (["train", "demo", "--resume"], "expected --out"),
        (["train", "demo", "--device", "gpu"], "--device: got 'gpu'"),
        (["evaluate", "nowhere"], "nowhere: not a run directory"),
        (["evaluate", "nowhere", "--k", "ten"], "expected integers"),
        (["recommend", "nowhere"], "nowhere: not a run directory"),
        (["import-checkpoint", "no.pth", "--data", "demo", "--out", "run"], "no.pth: no such file"),
        (["export", "nowhere", "--format", "npy", "--out", "x"], "nowhere"),
        (["export", "demo", "--format", "xml", "--out", "x"], "xml"),
        (["fly"], "fly"),
        ([], "COMMAND"),
    ],
)
def test_wrong_commands(bm3: Run, arguments: list[str], message: str, assert_refused: Refused) -> None:
    assert_refused(bm3(*arguments), message)


def test_the_names_of_models_are_those_there_are() -> None:
    assert {name: cls for name, (_, cls) in names.MODELS.items()} == {n: cls.__name__ for n, cls in MODELS.items()}


def test_what_commands_offer_is_what_the_library_takes() -> None:
    """Written twice, for help that does not load what holds the tables."""

    def options(*verbs: str) -> dict[str, Any]:
        parser = _parser()
        for verb in verbs:
            parser = parser._subparsers._group_actions[0].choices[verb]  # type: ignore[union-attr, index]
        return {
            action.option_strings[-1] if action.option_strings else action.dest: action for action in parser._actions
        }

    prepare, train, sweep = options("data", "prepare"), options("train"), options("sweep")
    assert [*prepare["name"].choices] == [*CATEGORIES]
    assert prepare["--text-encoder"].default == encoder.DEFAULT
    assert [*train["--corrupt"].choices] == [*CORRUPTIONS]
    assert [*train["--preset"].choices] == [*PRESETS]
    assert [*sweep["--protocol"].choices] == [*PROTOCOLS]
    assert {*options("export")["--format"].choices} == {*FORMATS, "faiss"}
    assert all(name in SOURCE_HELP for name in PLANTED)


def examples(bm3: Run, verb: str) -> list[list[str]]:
    """The examples in a command's help, each as its arguments."""
    shown = bm3(*verb.split(), "--help")[1].split("example:\n")[1].split("\n\n")[0]
    return [shlex.split(part)[1:] for part in re.sub(r"\n {6,}", " ", shown).splitlines() if part.startswith("  bm3 ")]


@pytest.mark.parametrize("verb", VERBS)
def test_examples_are_understood(bm3: Run, verb: str) -> None:
    found = examples(bm3, verb)
    assert found
    for arguments in found:
        assert _parser().parse_args(arguments).run


def test_examples_work(bm3: Run, shop: Path, tmp_path: Path) -> None:
    shutil.copytree(shop, tmp_path / "data/baby")
    (tmp_path / "ids.txt").write_text("0\n1\n")
    for verb in ("models", "data describe", "train", "evaluate", "recommend", "similar", "export"):
        arguments = examples(bm3, verb)[0]
        code, out, err = bm3(*arguments, *(["--set", "max_epochs=1"] if verb == "train" else []))
        assert (code, bool(out)) == (0, True), (arguments, err)


@pytest.mark.parametrize("model", names.MODELS)
def test_help_lists_what_a_model_can_be_set_to(bm3: Run, model: str) -> None:
    for command in (["models", model], ["train", "--model", model, "--help"], ["train", "--help", "--model", model]):
        code, out, _ = bm3(*command)
        assert code == 0
        for option in (*names.settings_of(model), *names.training_options()):
            assert re.search(rf"^  {option.name} +\S.*{re.escape(option.meaning)}$", out, flags=re.MULTILINE)
    listed = json.loads(bm3("models", "--json")[1])
    assert [one["key"] for one in listed[model]["model"]] == [option.name for option in names.settings_of(model)]


def test_models_are_listed_a_line_each(bm3: Run) -> None:
    lines = bm3("models")[1].splitlines()
    assert [line.split()[0] for line in lines] == list(names.MODELS)


def test_memory_that_is_not_there(bm3: Run, assert_refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")):
        monkeypatch.setattr("bm3_pyg.names.summary", lambda _, error=error: (_ for _ in ()).throw(error))
        monkeypatch.setattr("bm3_pyg.cli.models.summary", names.summary)
        assert_refused(bm3("models"), "not enough memory")
