from __future__ import annotations

import pytest
import torch

from bm3_pyg.ops import dropout


@pytest.fixture(params=["numba", "torch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BM3_KERNELS", request.param)
    return str(request.param)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_scale_and_independence(kernels: str, rate: float, dtype: torch.dtype) -> None:
    """Rate, correlation with the neighbours and with the places that share a random number, all within 5 sigma."""
    x = torch.full((1001, 63), 2.0, dtype=dtype)
    out = dropout(x, rate, seeded(0))
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 2 / (1 - rate)))
    keep = (out != 0).double().view(-1)
    sigma = (rate * (1 - rate) / keep.numel()) ** 0.5
    assert abs(float(keep.mean()) - (1 - rate)) < 5 * sigma
    centred = (keep - (1 - rate)) / (rate * (1 - rate)) ** 0.5
    for lag in (1, 2, 63, (keep.numel() + 1) // 2):
        assert abs(float((centred[lag:] * centred[:-lag]).mean())) < 5 / (keep.numel() - lag) ** 0.5


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (3, 5)])
def test_shapes_and_no_gradient(kernels: str, shape: tuple[int, int]) -> None:
    x = torch.randn(shape, requires_grad=True)
    out = dropout(x, 0.5, seeded(1))
    assert out.shape == x.shape
    assert not out.requires_grad
    assert bool(((out == 0) | torch.isclose(out, 2 * x.detach())).all())


def test_the_generator_decides(kernels: str) -> None:
    x = torch.randn(50, 8)
    one, two = (dropout(x, 0.5, seeded(2)) for _ in range(2))
    assert torch.equal(one, two)
    generator = seeded(2)
    assert torch.equal(dropout(x, 0.5, generator), one)
    assert not torch.equal(dropout(x, 0.5, generator), one)
    torch.manual_seed(3)
    first = dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5), first)


def test_nothing_is_dropped_at_rate_0(kernels: str) -> None:
    x = torch.randn(5, 4)
    assert torch.equal(dropout(x, 0.0), x)


def test_a_view_that_is_not_contiguous(kernels: str) -> None:
    x = torch.randn(6, 10).T
    out = dropout(x, 0.5, seeded(4))
    assert bool(((out == 0) | torch.isclose(out, 2 * x)).all())
