"""What commands do not load."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from bm3_pyg.cli.startup import SELDOM_NEEDED

SCRIPT = """
import json, sys
from bm3_pyg.cli import main
sys.argv = ["bm3", *sys.argv[1:]]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
print(json.dumps([code, [name for name in sys.modules if type(sys.modules[name]).__name__ != "_StandIn"]]))
"""

NUMBERS = tuple(map(int, version("torch").split("+")[0].split(".")[:2]))


def modules_after(*command: object, folder: Path) -> tuple[int, set[str]]:
    """The exit code of a command and the modules that are loaded at its end."""
    arguments = [sys.executable, "-c", SCRIPT, *map(str, command)]
    ended = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=True)
    code, names = json.loads(ended.stdout.splitlines()[-1])
    return code, set(names)


@pytest.mark.skipif(NUMBERS < (2, 13), reason="older PyTorch loads its compiler by itself")
@pytest.mark.parametrize(
    "command", ["recommend {run} --k 3 --out lists.csv", "train demo --set max_epochs=1", "train --resume --out {run}"]
)
def test_neither_the_compiler_nor_pygs_datasets_are_loaded(command: str, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    code, loaded = modules_after(*command.format(run=run).split(), folder=tmp_path)
    assert code == 0
    assert "torch_geometric.data" in loaded
    assert not loaded & {*SELDOM_NEEDED, "transformers", "pandas", "sympy"}


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
import torch._dynamo
assert all(disable(len) is len for disable in (torch._dynamo.disable, torch._dynamo.disable(recursive=False)))
assert type(torch._dynamo).__name__ == "_StandIn"
from torch_geometric.datasets import Planetoid
assert Planetoid.__name__ == "Planetoid"
torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))]).step()
assert torch._dynamo.OptimizedModule
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)) == 2
from torch.distributed.tensor import DTensor
assert issubclass(DTensor, torch.Tensor)
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


def test_a_part_of_what_is_loaded_late_comes_after_the_whole(tmp_path: Path) -> None:
    script = """
import inspect, sys
from bm3_pyg.cli.startup import load_when_used
load_when_used()
import torch, torch_geometric
inspect.getmodule(sys._getframe())  # looks at the file of every module
assert all(type(sys.modules[name]).__name__ == "_StandIn" for name in ("torch._dynamo", "torch_geometric.datasets"))
import torch._dynamo.utils
assert torch._dynamo.OptimizedModule
assert torch._dynamo.__path__ == torch._dynamo.__spec__.submodule_search_locations
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


def test_loading_counts_as_import(tmp_path: Path) -> None:
    script = """
from bm3_pyg.cli.startup import load_when_used
from bm3_pyg.timeline import part, recorded
load_when_used()
with recorded() as times, part("read"):
    import torch
assert times.seconds["import"] > 10 * times.seconds["read"], times.seconds
assert "_Counted" not in repr(torch.__loader__)
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
