"""What commands do not load."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from bm3_pyg.cli import main
sys.argv = ["bm3", *sys.argv[1:]]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
print(json.dumps([code, [name for name in sys.modules if type(sys.modules[name]).__name__ != "_LazyModule"]]))
"""

NUMBERS = tuple(map(int, version("torch").split("+")[0].split(".")[:2]))


def modules_after(*command: object, folder: Path) -> tuple[int, set[str]]:
    """The exit code of a command and the modules that are loaded at its end."""
    arguments = [sys.executable, "-c", SCRIPT, *map(str, command)]
    ended = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=True)
    code, names = json.loads(ended.stdout.splitlines()[-1])
    return code, set(names)


@pytest.mark.skipif(NUMBERS < (2, 13), reason="older PyTorch loads its compiler by itself")
def test_using_a_run_loads_neither_the_compiler_nor_pygs_datasets(trained: Path, tmp_path: Path) -> None:
    code, loaded = modules_after("recommend", trained, "--k", "3", "--out", "lists.csv", folder=tmp_path)
    assert code == 0
    assert "torch_geometric.data" in loaded
    assert not loaded & {"torch._dynamo", "torch_geometric.datasets", "transformers", "pandas", "sympy"}


@pytest.mark.parametrize("command", [["--help"], ["models"], ["models", "bm3"], ["train", "--help"]])
def test_help_loads_neither_pytorch_nor_numpy(command: list[str], tmp_path: Path) -> None:
    code, loaded = modules_after(*command, folder=tmp_path)
    assert code == 0
    assert not {"torch", "numpy", "polars", "numba"} & loaded


def test_what_is_loaded_late_is_there_when_it_is_used(tmp_path: Path) -> None:
    script = """
from bm3_pyg.cli.startup import load_when_used
load_when_used()
import torch
from torch_geometric.datasets import Planetoid
assert Planetoid.__name__ == "Planetoid"
torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))]).step()
assert torch._dynamo.OptimizedModule
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
