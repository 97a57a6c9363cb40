"""Help, and every kind of wrong command."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bm3_pyg import names
from bm3_pyg.models import MODELS

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., None]

VERBS = [
    *("train", "evaluate", "recommend", "similar", "sweep", "import-checkpoint", "export"),
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
