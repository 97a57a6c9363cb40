from __future__ import annotations

import pytest
import torch

from bm3_pyg.errors import ConfigError
from bm3_pyg.ops import backend, build_graph, propagate
from bm3_pyg.ops.backend import backend_for


def test_backends_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build_graph(torch.tensor([[0], [0]]), 1, 1)
    monkeypatch.setenv("BM3_KERNELS", "nubma")
    with pytest.raises(ConfigError, match="did you mean 'numba'"):
        propagate(graph, torch.ones(1, 1), torch.ones(1, 1), 1)
    monkeypatch.setenv("BM3_KERNELS", "auto")
    assert propagate(graph, torch.ones(1, 1).bfloat16(), torch.ones(1, 1).bfloat16(), 1)[0].dtype == torch.bfloat16


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Packages taken to be there: all optional ones, until a test removes some; and no interpreter of Triton."""
    packages = {"numba", "triton", "torch_sparse"}
    monkeypatch.setattr(backend, "_installed", packages.__contains__)
    monkeypatch.setattr(backend, "_compiles", lambda: "numba" in packages)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    return packages


@pytest.mark.parametrize(
    ("asked", "missing", "dtype", "expected"),
    [
        (None, "", torch.float32, "numba"),
        ("auto", "", torch.float64, "numba"),
        ("auto", "", torch.float16, "torch"),
        ("auto", "numba", torch.float32, "torch"),
        ("numba", "", torch.float32, "numba"),
        ("numba", "", torch.bfloat16, "torch"),
        ("triton", "", torch.float32, "numba"),
        ("triton", "", torch.float16, "torch"),
        ("torch", "", torch.float32, "torch"),
        ("torch_sparse", "", torch.float32, "torch_sparse"),
    ],
)
def test_what_runs_on_a_cpu(
    asked: str | None,
    missing: str,
    dtype: torch.dtype,
    expected: str,
    installed: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed.discard(missing)
    monkeypatch.delenv("BM3_KERNELS", raising=False)
    if asked is not None:
        monkeypatch.setenv("BM3_KERNELS", asked)
    assert backend_for(torch.ones(1, dtype=dtype)) == expected


def test_triton_is_interpreted_on_request(installed: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for asked, expected in (("triton", "triton"), ("auto", "numba"), ("torch", "torch")):
        monkeypatch.setenv("BM3_KERNELS", asked)
        assert backend_for(torch.ones(1)) == expected
    monkeypatch.setenv("BM3_KERNELS", "triton")
    assert backend_for(torch.ones(1).half()) == "torch"


@pytest.mark.parametrize("package", ["numba", "triton", "torch_sparse"])
def test_a_package_that_is_not_installed(package: str, installed: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    installed.remove(package)
    monkeypatch.setenv("BM3_KERNELS", package)
    with pytest.raises(ConfigError, match=f"got '{package}', but the package {package} is not installed"):
        backend_for(torch.ones(1))
