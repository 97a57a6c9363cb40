"""Triton's cosine kernel beside its slow twin: on a GPU, or in Triton's interpreter with TRITON_INTERPRET=1."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch
from torch import Tensor

from bm3_pyg.ops import weighted_cosine

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs the package triton", allow_module_level=True)
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a GPU, or TRITON_INTERPRET=1", allow_module_level=True)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRECISE = {torch.float32: 1e-6, torch.float64: 1e-12}
N = 41  # rows; not a multiple of what a program takes


@pytest.fixture(autouse=True)
def _backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_KERNELS", "triton")


def twin(a: Tensor, b: Tensor, a_rows: Tensor | None, b_rows: Tensor | None, weight: Tensor | None) -> Tensor:
    x = a if a_rows is None else a[a_rows]
    y = b if b_rows is None else b[b_rows]
    x, y = (rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-8) for rows in (x, y.detach()))
    cosine = torch.sum(x * y, 1)
    return torch.mean(cosine) if weight is None else torch.sum(cosine * weight)


def tables(dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows with gradient and targets; some of either without length, and one shorter than any norm divided by."""
    generator = torch.Generator().manual_seed(dim)
    a, b = (torch.randn(N, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    a[3], a[4], b[4], b[5], a[6] = 0, 0, 0, 0, 1e-12
    return a.to(DEVICE, dtype).requires_grad_(), b.to(DEVICE, dtype).requires_grad_()


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("dim", [1, 3, 64, 100, 128, 129])
@pytest.mark.parametrize("joins", ["rows", "a only", "b only", "in order"])
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradient(dim: int, joins: str, weighted: bool, dtype: torch.dtype) -> None:
    a, b = tables(dim, dtype)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(N // 2, (N,), generator=generator).to(DEVICE) for _ in range(2)]
    a_rows = drawn[0] if joins in ("rows", "a only") else None
    b_rows = drawn[1] if joins in ("rows", "b only") else None
    weight = torch.rand(N, generator=generator, dtype=torch.float64).to(DEVICE, dtype) if weighted else None
    found, expected = weighted_cosine(a, b, a_rows, b_rows, weight), twin(a, b, a_rows, b_rows, weight)
    torch.testing.assert_close(found, expected, rtol=PRECISE[dtype], atol=PRECISE[dtype])
    gradients = [torch.autograd.grad(value * 3, a)[0] for value in (found, expected)]
    length = torch.linalg.vector_norm(a.detach(), dim=1, keepdim=True).clamp(min=1e-8)  # slopes go with its inverse
    torch.testing.assert_close(*(gradient * length for gradient in gradients), rtol=0, atol=PRECISE[dtype])
    assert torch.equal(found, weighted_cosine(a, b, a_rows, b_rows, weight))


@pytest.mark.parametrize("dtype", PRECISE)
def test_one_pair_no_pair_and_no_gradient(dtype: torch.dtype) -> None:
    a, b = tables(3, dtype)
    row = torch.tensor([2], device=DEVICE)
    torch.testing.assert_close(weighted_cosine(a, b, row, row), twin(a, b, row, row, None))
    with torch.no_grad():
        torch.testing.assert_close(weighted_cosine(a, b), twin(a, b, None, None, None))
    empty = weighted_cosine(a, b, row[:0], row[:0])
    assert empty == 0
    assert not torch.autograd.grad(empty, a)[0].any()
