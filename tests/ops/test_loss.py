"""The losses and the dropout of a step against slow twins, by autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bm3_pyg.ops import dropout, weighted_cosine
from bm3_pyg.ops.loss import BLOCK, Pairs, uniformity, weighted_cosines

A_ROWS, B_ROWS = torch.tensor([0, 3, 3, 6, 2, 2]), torch.tensor([5, 0, 1, 1, 1, 4])

# Cosines --------------------------------------------------------------------------------------------------------------


def cosine_twin(a: Tensor, b: Tensor, a_rows: Tensor | None, b_rows: Tensor | None, weight: Tensor | None) -> Tensor:
    x = a if a_rows is None else a[a_rows]
    y = b if b_rows is None else b[b_rows]
    cosine = F.cosine_similarity(x, y.detach())
    return cosine.mean() if weight is None else (cosine * weight).sum()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-12), (torch.float, 1e-6)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [(A_ROWS, B_ROWS), (None, A_ROWS), (B_ROWS, None), (None, None)])
@pytest.mark.parametrize("dim", [1, 7, 64])
def test_weighted_cosine_is_its_twin(
    dim: int, rows: tuple[Tensor | None, Tensor | None], weighted: bool, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    pairs = 7 if rows == (None, None) else 6
    a = torch.randn(7 if rows[0] is not None else (6 if rows[1] is not None else 7), dim, dtype=dtype)
    b = torch.randn(7 if rows[1] is not None else (6 if rows[0] is not None else 7), dim, dtype=dtype)
    a.requires_grad_()
    b.requires_grad_()
    weight = torch.rand(pairs, dtype=dtype) if weighted else None
    result, expected = weighted_cosine(a, b, *rows, weight), cosine_twin(a, b, *rows, weight)
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)
    gradients = [torch.autograd.grad(x * 3, a)[0] for x in (result, expected)]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


def test_targets_get_no_gradient_and_rows_without_length_do_no_harm() -> None:
    a = torch.randn(4, 3, dtype=torch.double)
    a[1] = 0
    b = torch.randn(4, 3, dtype=torch.double)
    b[3] = 0
    a.requires_grad_()
    b.requires_grad_()
    result, expected = weighted_cosine(a, b), cosine_twin(a, b, None, None, None)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(*(torch.autograd.grad(x, a)[0] for x in (result, expected)))
    assert torch.autograd.grad(weighted_cosine(a, b), b, allow_unused=True)[0] is None
    a = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: weighted_cosine(a, b, A_ROWS[:3], B_ROWS[1:4]), a)


@pytest.mark.parametrize("kernels", ["numba", "torch"])
def test_sets_of_pairs_add_their_gradients(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that several sets share, a set without pairs, and one whose value nobody differentiates."""
    monkeypatch.setenv("BM3_KERNELS", kernels)
    torch.manual_seed(0)
    a, b = torch.randn(7, 5, dtype=torch.double, requires_grad=True), torch.randn(7, 5, dtype=torch.double)
    none = torch.empty(0, dtype=torch.int64)
    weight = torch.rand(6, dtype=torch.double)
    sets = [
        Pairs(A_ROWS, B_ROWS),
        Pairs(B_ROWS, A_ROWS, weight),
        Pairs(),
        Pairs(none, none, weight[:0]),
        Pairs(A_ROWS, A_ROWS),
    ]
    values = weighted_cosines(a, b, sets)
    expected = [cosine_twin(a, b, *pairs) for pairs in sets[:3]]
    torch.testing.assert_close(torch.stack(values[:3]), torch.stack(expected))
    assert values[3] == 0
    weighed = [2 * first - 3 * second + third for first, second, third in (values[:3], expected)]
    torch.testing.assert_close(*(torch.autograd.grad(x, a)[0] for x in weighed))


# Dropout --------------------------------------------------------------------------------------------------------------


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


# Uniformity -----------------------------------------------------------------------------------------------------------


def uniformity_twin(rows: Tensor, weight: Tensor) -> Tensor:
    units = rows / rows.norm(dim=1, keepdim=True)
    squares = (units[:, None] - units[None]).square().sum(-1)
    result: Tensor = (weight[:, None] * weight * (-2 * squares).exp()).sum().log()
    return result


@pytest.mark.parametrize("count", [1, 2, 40, BLOCK + 3])
def test_value_and_gradient_are_those_of_the_twin(count: int) -> None:
    torch.manual_seed(count)
    rows = torch.randn(count, 5, dtype=torch.float64)
    rows[count // 2] = rows[0]
    rows.requires_grad_()
    weight = torch.rand(count, dtype=torch.float64)
    weight[0] = 0 if count > 1 else 1
    weight /= weight.sum()
    found, expected = uniformity(rows, weight), uniformity_twin(rows, weight)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    of_found, of_expected = (torch.autograd.grad(3 * value, rows)[0] for value in (found, expected))
    torch.testing.assert_close(of_found, of_expected, rtol=1e-9, atol=1e-13)


def test_zero_rows_have_a_finite_gradient() -> None:
    rows = torch.zeros(4, 3, requires_grad=True)
    value = uniformity(rows, torch.full((4,), 0.25))
    value.backward()
    assert value.isfinite()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_one_direction_is_the_worst() -> None:
    rows, even = torch.ones(6, 3), torch.full((6,), 1 / 6)
    assert float(uniformity(rows, even)) == pytest.approx(0, abs=1e-6)
    spread = uniformity(torch.cat([torch.eye(3), -torch.eye(3)]), even)
    assert float(spread) == pytest.approx(
        float(uniformity_twin(torch.cat([torch.eye(3), -torch.eye(3)]), even)), rel=1e-5
    )
    assert spread < -1
