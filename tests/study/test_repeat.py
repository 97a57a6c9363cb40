"""Environments merged, and commands that the command line takes."""

from __future__ import annotations

import inspect
import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bm3_pyg.cli import main
from bm3_pyg.data import load_dataset
from bm3_pyg.study.repeat import OPTIONS, commands_of, environment_of
from bm3_pyg.study.report import build_report
from bm3_pyg.study.rows import grouped
from bm3_pyg.study.runs import gather
from bm3_pyg.study.search import PUBLISHED, Setting, ablations, grid, sample

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


def test_the_commands_of_a_report_run_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of the table, whose name has a space, with features in another one."""
    folder, features = tmp_path / "my data", tmp_path / "features"
    folder.mkdir()
    features.mkdir()
    rows = "".join(f"u{u},i{(u + j) % 8},{j}\n" for u in range(12) for j in range(6))
    (folder / "demo's clicks.csv").write_text(f"who,what,when\n{rows}")
    (features / "image.csv").write_text("what,a,b\n" + "".join(f"i{i},{i},{i * i}\n" for i in range(8)))
    read = ["--user-column", "who", "--item-column", "what", "--time-column", "when", "--split", "leave-one-out"]
    read += ["--core", "2", "--features", f"image={features / 'image.csv'}", "--corrupt", "shuffled"]
    settings = ["--set", "max_epochs=2", "embedding_dim=4", "dropout=0.25", "modalities=[image]"]
    first = tmp_path / "first"
    assert main(["train", str(folder / "demo's clicks.csv"), *read, *settings, "--seed", "3", "--out", str(first)]) == 0
    (line,) = build_report([first]).sections[0].commands
    assert str(tmp_path) not in line
    monkeypatch.chdir(folder)
    second = tmp_path / "second"
    assert main([*shlex.split(line)[1:], "--out", str(second)]) == 0
    assert (second / "config.yaml").read_bytes() == (first / "config.yaml").read_bytes()
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (first, second)]
    assert metrics[0].keys() == metrics[1].keys()
    for split in ("val", "test"):
        assert metrics[0][split] == pytest.approx(metrics[1][split])


def test_every_way_to_read_data_has_an_option() -> None:
    said = {*OPTIONS, "features", "items"}
    assert said == set(inspect.signature(load_dataset).parameters) - {"source"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"source": "demo"}, ["demo"]),
        ({"source": "/a/demo"}, ["./demo"]),
        ({"source": "/a/-x.csv", "items": "/a/demo", "features": {"image": "/b/x.npy"}}, None),
        ({"source": "/a/\x1b[31m.csv"}, ["\x1b[31m.csv"]),
    ],
)
def test_names_that_could_be_taken_for_something_else(
    tmp_path: Path, make_run: Make, source: dict[str, object], expected: list[str] | None
) -> None:
    config = yaml.safe_load((make_run(tmp_path / "a", sealed=False) / "config.yaml").read_text())
    config["dataset"]["source"] = source
    (tmp_path / "a/config.yaml").write_text(yaml.safe_dump(config))
    (line,) = commands_of([], grouped(gather([tmp_path]).runs, []))
    assert "\x1b" not in line
    parts = subprocess.run(["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True)
    found = parts.stdout.splitlines()[2:-4]
    assert found == (expected or ["./-x.csv", "--features", "image=../b/x.npy", "--items", "./demo"])


@pytest.mark.parametrize(
    ("settings", "arguments", "options"),
    [
        (grid(["bm3"], PUBLISHED), {"--preset": ["published"]}, "--preset published"),
        (ablations(["image", "text"]), {"--preset": ["ablation"]}, "--preset ablation"),
        (
            grid(["bm3", "lightgcn"], ["num_layers=1,2", "bm3.dropout=0.3,0.5"]),
            {"--models": ["bm3", "lightgcn"], "--grid": ["num_layers=1,2", "bm3.dropout=0.3,0.5"]},
            "--models bm3 lightgcn --grid num_layers=1,2 bm3.dropout=0.3,0.5",
        ),
        (grid(["bm3", "popularity"], []), {"--models": ["bm3", "popularity"]}, "--models bm3 popularity"),
        (
            sample(grid(["bm3"], PUBLISHED), 3),
            {"--grid": ["modalities=[a]", "x=$(y)"], "--random": ["3"]},
            "--grid 'modalities=[a]' 'x=$(y)' --random 3",
        ),
    ],
)
def test_a_sweep_is_repeated_by_the_command_that_it_records(
    tmp_path: Path,
    make_run: Make,
    make_sweep: Make,
    settings: tuple[Setting, ...],
    arguments: dict[str, list[str]],
    options: str,
) -> None:
    arguments = {**arguments, "--seeds": ["2"], "--set": ["patience=60"]}
    out = make_sweep(tmp_path / "mine", list(settings), 2, arguments)
    make_run(out / settings[0].name / "seed-0")
    line = f"bm3 sweep shop --out runs/mine {options} --seeds 2 --set patience=60"
    assert commands_of(gather([out]).sweeps, []) == [line]


def test_a_sweep_without_a_record_of_its_command_is_repeated_run_by_run(
    tmp_path: Path, make_run: Make, make_sweep: Make
) -> None:
    settings = sample(grid(["bm3"], PUBLISHED), 3)
    out = make_sweep(tmp_path / "mine", list(settings), 1)
    make_run(out / settings[0].name / "seed-0")
    found = gather([out])
    groups = grouped(found.every_run(), [])
    comment, line = commands_of(found.sweeps, groups)
    assert comment.startswith("# the command of the sweep mine is not on record")
    assert line == "bm3 train shop --model bm3 --seed 0"
