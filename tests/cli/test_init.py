"""Help, and every kind of wrong command."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., None]


@pytest.mark.parametrize("verb", ["train", "evaluate", "recommend", "import-checkpoint", "export", "data describe"])
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
def test_wrong_commands(bm3: Run, arguments: list[str], message: str, refused: Refused) -> None:
    refused(bm3(*arguments), message)
