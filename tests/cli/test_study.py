"""``bm3 sweep``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from bm3_pyg.study.report import build_report

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., None]


def test_a_sweep_selects_on_validation_and_is_taken_up(bm3: Run, shop: Path) -> None:
    sweep = ["sweep", shop, "--out", "out", "--seeds", "1", "--set", "max_epochs=1"]
    models = ["--models", "popularity", "bm3", "--grid", "num_layers=1"]
    code, out, err = bm3(*sweep, *models)
    assert code == 0, err
    assert "**popularity**" in out
    assert "**bm3 num_layers=1**" in out
    assert "Selected on validation" in out
    assert out.splitlines()[-1] == "out"
    assert Path("out/table.md").read_text() == out.rsplit("\n", 2)[0] + "\n"
    code, out, err = bm3(*sweep, *models, "--protocol", "mmrec", "--json")
    assert code == 0
    assert "[1/" not in err  # nothing was run again
    (command,) = build_report(["out"]).sections[0].commands
    assert command == (
        "bm3 sweep shop --out runs/out --models popularity bm3 --grid num_layers=1 --seeds 1 --set max_epochs=1"
    )
    before = Path("out/sweep.yaml").read_bytes()
    assert bm3(*shlex.split(command.replace("runs/out", "out"))[1:])[0] == 0
    assert Path("out/sweep.yaml").read_bytes() == before
    assert json.loads(out)["protocol"]["name"] == "mmrec"
    assert all(run["test"] for run in json.loads(out)["runs"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "published", "--grid", "lr=1"], "expected one of them"),
        (["--preset", "ablation", "--models", "lightgcn"], "is for bm3 alone"),
        (["--grid", "layers=1,2"], "has a setting 'layers'"),
        (["--seeds", "0"], "--seeds: got 0"),
        (["--jobs", "0"], "--jobs: got 0"),
        (["--models", "gcn"], "gcn"),
    ],
)
def test_wrong_sweeps(bm3: Run, assert_refused: Refused, arguments: list[str], message: str) -> None:
    assert_refused(bm3("sweep", "demo", "--out", "out", *arguments), message)
    assert not Path("out").exists()
