"""Triton's kernels compiled ahead of time, as training steps launch them; no GPU is needed."""

from __future__ import annotations

import importlib.util
import os

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs the package triton", allow_module_level=True)
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter compiles nothing", allow_module_level=True)

from speed.compiled import ARCHES, DIMS, DTYPES, Compiled, compiled_kernels


@pytest.fixture(scope="module", params=[(arch, dtype) for arch in ARCHES for dtype in DTYPES], ids=str)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Compiled]:
    arch, dtype = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        return compiled_kernels(arch, dtype)


def test_each_kernel_is_compiled_once_for_a_type_and_a_dimension(made: list[Compiled]) -> None:
    """Whatever the size of the batch and of its blocks. The cosine has two forms: pairs of rows, and weighted."""
    found = sorted((kernel.kernel, kernel.dim) for kernel in made)
    rows = [(name, dim) for name in ("catch_up_rows", "update_rows") for dim in DIMS]
    assert found == sorted([*rows, ("weighted_cosine", 64), ("weighted_cosine", 64)])


def test_nothing_spills(made: list[Compiled]) -> None:
    assert all(kernel.spilled == 0 for kernel in made)
    assert all(kernel.registers <= 128 for kernel in made)  # 16 warps of 65,536 registers
    assert all(kernel.shared <= 1024 for kernel in made)


def test_rows_are_loaded_16_bytes_at_once_where_their_dimension_allows(made: list[Compiled]) -> None:
    tables = {"catch_up_rows": 3, "update_rows": 4, "weighted_cosine": 2}  # how many hold elements of rows
    for kernel in made:
        if kernel.dim % 16 == 0:
            assert kernel.loads >= tables[kernel.kernel], kernel
