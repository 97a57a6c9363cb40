from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.caching import IndexDataCacheFile

import bm3_pyg
from bm3_pyg.ops.jit import compiled

PACKAGE = Path(bm3_pyg.__file__).parent
KERNELS = """
import numpy as np
from bm3_pyg.ops import numba_kernels
values, ids = np.empty((1, 2), np.float32), np.empty((1, 2), np.int64)
row = np.arange(3, dtype=np.float32)[None]
numba_kernels.topk(row, *np.zeros((3, 1), np.int64), values, ids, 0, 1)
assert ids.tolist() == [[2, 1]]
numba_kernels.drop(row[0], *numba_kernels.words(1, 0), np.float32(1), out := np.empty(3, np.float32))
assert out.tolist() == [0, 1, 2]
"""


def twice(x: float) -> float:
    return 2 * x


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    return tmp_path


def test_the_second_process_does_not_compile(cache: Path) -> None:
    for hits in (0, 1):
        function = compiled()(twice)
        assert function(3) == 6
        assert len(function.stats.cache_hits) == hits
    assert list(cache.rglob("*.nbi"))


@pytest.mark.parametrize("damaged", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("left", [0, 20])
def test_a_damaged_cache_is_made_anew(cache: Path, damaged: str, left: int, caplog: pytest.LogCaptureFixture) -> None:
    compiled()(twice)(3)
    (file,) = cache.rglob(damaged)
    file.write_bytes(file.read_bytes()[:left])
    assert compiled()(twice)(3) == 6
    function = compiled()(twice)
    assert function(3) == 6
    assert function.stats.cache_hits
    assert caplog.messages == []


def test_a_full_disk_is_said_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_save_data", full)
    with caplog.at_level(logging.WARNING, logger="bm3_pyg"):
        function = compiled()(twice)
        assert (function(3), function(1.5)) == (6, 3.0)
        assert compiled()(twice)(3) == 6
    assert len(caplog.messages) == 1
    assert "No space left on device" in caplog.messages[0]


def test_nowhere_to_keep_what_is_compiled(tmp_path: Path) -> None:
    """A package that cannot be written to, a home that cannot be there: also for root, whom no permission stops."""
    copy = shutil.copytree(PACKAGE, tmp_path / "bm3_pyg", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "ops/__pycache__").write_text("")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG"))}
    environment |= {"HOME": "/dev/null", "PYTHONPATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", KERNELS], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("\n") == 1
    assert "NUMBA_CACHE_DIR" in run.stderr


def test_a_user_without_a_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING, logger="bm3_pyg"):
        assert compiled()(twice)(3) == 6
    assert "no home folder" in caplog.messages[0]
    assert list(tmp_path.iterdir()) == []


def test_every_loop_is_compiled_this_way() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert "njit" not in file.read_text() or file.name == "jit.py", file
