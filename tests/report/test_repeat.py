"""Environments merged, and commands that the command line takes."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from bm3_pyg.report.gather import gather
from bm3_pyg.report.repeat import commands_of, environment_of
from bm3_pyg.report.rows import grouped
from bm3_pyg.train.grid import PUBLISHED, ablations, grid, sample
from bm3_pyg.train.sweep import Setting

Make = Callable[..., Path]


def test_an_environment_that_all_share(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1)
    warnings: list[str] = []
    merged = environment_of(gather([tmp_path]).runs, warnings)
    assert merged == {
        "python": "3.11",
        "commit": "a" * 40,
        "device": "cpu",
        "threads": 1,
        "packages": {"numpy": "2"},
    }
    assert not warnings


def test_environments_that_differ_are_all_named(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", environment={"commit": "b" * 40, "threads": 2, "packages": {"numpy": "3", "numba": "1"}})
    warnings: list[str] = []
    merged = environment_of(gather([tmp_path]).runs, warnings)
    assert merged["threads"] == [1, 2]
    assert merged["packages"] == {"numpy": ["2", "3"], "numba": ["unknown", "1"]}
    assert [text.partition(";")[0] for text in warnings] == [
        f"runs differ in commit: {'a' * 12}, {'b' * 12}",
        "runs differ in threads: 1, 2",
        "runs differ in numpy: 2, 3",
        "runs differ in numba: unknown, 1",
    ]


def test_a_run_is_repeated_by_its_command(tmp_path: Path, make_run: Make) -> None:
    options = {"modalities": ["image"], "num_layers": 2, "dropout": 0.3}
    make_run(tmp_path / "a", seed=4, options=options, train={"mask": "seen", "patience": 60}, corrupt="random")
    (line,) = commands_of([], grouped(gather([tmp_path]).runs, []))
    parts = shlex.split(line)
    assert parts[:6] == ["bm3", "train", "shop", "--corrupt", "random", "--model"]
    assert parts[6:] == [
        *("bm3", "--set", "modalities=[image]", "num_layers=2", "dropout=0.3", "patience=60", "mask=seen"),
        *("--seed", "4"),
    ]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (grid(["bm3"], PUBLISHED), "--preset published --seeds 2 --set patience=60"),
        (ablations(["image", "text"]), "--preset ablation --seeds 2 --set patience=60"),
        (
            grid(["bm3", "lightgcn"], ["num_layers=1,2", "bm3.dropout=0.3,0.5"]),
            "--models bm3 lightgcn --grid bm3.num_layers=1,2 bm3.dropout=0.3,0.5 lightgcn.num_layers=1,2 "
            "--seeds 2 --set patience=60",
        ),
        (grid(["bm3", "popularity"], []), "--models bm3 popularity --seeds 2 --set patience=60"),
    ],
)
def test_a_sweep_is_repeated_by_its_command(
    tmp_path: Path, make_run: Make, make_sweep: Make, settings: tuple[Setting, ...], options: str
) -> None:
    out = make_sweep(tmp_path / "mine", list(settings), 2, ("patience=60",))
    make_run(out / settings[0].name / "seed-0")
    assert commands_of(gather([out]).searches, []) == [f"bm3 sweep shop --out runs/mine {options}"]


def test_a_sweep_that_no_grid_says_is_repeated_run_by_run(tmp_path: Path, make_run: Make, make_sweep: Make) -> None:
    settings = sample(grid(["bm3"], PUBLISHED), 3)
    out = make_sweep(tmp_path / "mine", list(settings), 1)
    make_run(out / settings[0].name / "seed-0")
    found = gather([out])
    groups = grouped(found.every_run(), [])
    assert commands_of(found.searches, groups) == ["bm3 train shop --model bm3 --seed 0"]
