from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import bm3_pyg


def test_every_public_name_is_there() -> None:
    assert set(bm3_pyg.__all__) <= set(dir(bm3_pyg))
    for name in bm3_pyg.__all__:
        assert getattr(bm3_pyg, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bm3_pyg.nothing  # noqa: B018


@pytest.mark.parametrize(
    "package", ["data", "data.amazon", "eval", "models", "nn", "optim", "serving", "study", "train"]
)
def test_every_public_name_of_a_folder_is_there(package: str) -> None:
    module = importlib.import_module(f"bm3_pyg.{package}")
    assert set(module.__all__) <= set(dir(module))
    for name in dir(module):
        assert getattr(module, name, None) is not None


def test_names_that_moved_are_where_they_were() -> None:
    from bm3_pyg import eval, nn

    assert nn.BM3 is bm3_pyg.BM3
    assert nn.BM3LightGCN is bm3_pyg.BM3LightGCN
    assert nn.RowTable.__name__ == "RowTable"
    assert eval.recommend is bm3_pyg.recommend
    assert eval.recommend_new.__name__ == "recommend_new"
    assert eval.similar_items.__name__ == "similar_items"


def run(code: str, **environment: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def test_help_does_not_load_pytorch() -> None:
    code = "import atexit, sys, bm3_pyg.cli\n"
    code += "atexit.register(lambda: print('torch' in sys.modules))\nbm3_pyg.cli.main(['--help'])"
    assert run(code).splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("before", "environment", "expected"),
    [
        ("", {}, "passive 20000"),
        ("import torch", {}, "None None"),
        ("", {"OMP_WAIT_POLICY": "active"}, "active None"),
    ],
)
def test_idle_threads_are_told_to_wait_briefly(before: str, environment: dict[str, str], expected: str) -> None:
    code = f"{before}\nimport bm3_pyg, os\nprint(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"
    assert run(code, **environment) == expected
