from __future__ import annotations

import subprocess
import sys

import pytest

import bm3_pyg


def test_every_public_name_is_there() -> None:
    assert sorted(bm3_pyg.__all__) == sorted(bm3_pyg._HOMES)
    for name in bm3_pyg.__all__:
        assert getattr(bm3_pyg, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bm3_pyg.nothing  # noqa: B018


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
