"""A gradient in parts beside the dense one; ``test_deferred_adam.py`` trains with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bm3_pyg.optim.row_gradient import RowGradient, RowPart

N, WIDTH, DIM = 9, 5, 2


@pytest.fixture(params=["numba", "torch"], autouse=True)
def _backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_KERNELS", request.param)


def part(rows: list[int], factored: bool) -> RowPart:
    generator = torch.Generator().manual_seed(len(rows))
    values = torch.randn(len(rows), DIM if factored else WIDTH, generator=generator, dtype=torch.float64)
    basis = torch.randn(DIM, WIDTH, generator=generator, dtype=torch.float64) if factored else None
    return RowPart(torch.tensor(rows, dtype=torch.int64), values, basis)


PARTS: dict[str, list[tuple[list[int], bool]]] = {
    "none": [],
    "no rows": [([], True)],
    "in order": [([1, 4, 7], True)],
    "repeated": [([4, 1, 4, 4], True)],
    "factors": [([1, 4, 7], True), ([7, 0], True)],
    "values": [([1, 4, 4], False), ([0, 1], False)],
    "both": [([1, 4, 7], True), ([4, 4, 0, 8], False)],
}


def gradient_of(kind: str) -> tuple[RowGradient, Tensor]:
    """A gradient, and the same dense."""
    gradient = RowGradient([part(*each) for each in PARTS[kind]], torch.empty(N, WIDTH, dtype=torch.float64))
    dense = torch.zeros(N, WIDTH, dtype=torch.float64)
    for each in gradient.parts:
        for row, values in zip(each.rows.tolist(), each.values, strict=True):
            dense[row] += values if each.basis is None else values @ each.basis
    return gradient, dense


@pytest.mark.parametrize("kind", PARTS)
def test_merged_it_is_the_same_in_distinct_rows(kind: str) -> None:
    gradient, dense = gradient_of(kind)
    merged = gradient.merged()
    assert merged.rows.tolist() == sorted({row for rows, _ in PARTS[kind] for row in rows})
    out = torch.empty(N, WIDTH, dtype=torch.float64)
    for start in range(len(merged.rows)):
        torch.testing.assert_close(merged.product(start, start + 1, out)[0], dense[merged.rows[start]])
    assert (merged.basis is None) == (kind in ("values", "both"))
    assert any(merged is part for part in gradient.parts) == (kind in ("no rows", "in order"))
    torch.testing.assert_close(gradient.to_dense(), dense)
    torch.testing.assert_close(gradient.to_dense(torch.float32), dense.float())
    torch.testing.assert_close(gradient.norm2(), dense.norm())


IN_PLACE: dict[str, Callable[[Tensor], object]] = {
    "scaled": lambda g: g.mul_(3),
    "scaled by a tensor": lambda g: g.mul_(torch.tensor(0.5, dtype=torch.float64)),
    "with others": lambda g: torch._foreach_mul_([g, torch.ones(1)], 2.0),
    "zeroed": lambda g: g.zero_(),
    "added to": lambda g: g.add_(torch.full_like(g, 2)),
    "clipped": lambda g: nn.utils.clip_grads_with_norm_([_holding(g)], 0.1, torch.linalg.vector_norm(g)),
}


def _holding(gradient: Tensor) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(N, WIDTH, dtype=torch.float64))
    parameter.grad = gradient
    return parameter


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("change", IN_PLACE)
def test_changes_in_place_are_those_of_a_dense_gradient(kind: str, change: str) -> None:
    gradient, dense = gradient_of(kind)
    copied, before = gradient.clone(), dense.clone()
    for each in (gradient, dense):
        IN_PLACE[change](each)
    torch.testing.assert_close(gradient.to_dense(), dense)
    assert isinstance(copied, RowGradient)
    torch.testing.assert_close(copied.to_dense(), before)


def test_a_sum_of_two_is_kept_in_parts_and_other_results_are_dense() -> None:
    (one, dense), (other, more) = gradient_of("both"), gradient_of("repeated")
    total = one + other
    assert isinstance(total, RowGradient)
    assert "rows=[3, 4, 4]" in repr(total)
    torch.testing.assert_close(total.to_dense(), dense + more)
    torch.testing.assert_close(one.to_dense(), dense)
    for found, expected in ((one * 2, dense * 2), (one + 1, dense + 1), (torch.stack([one, other])[1], more)):
        assert type(found) is Tensor
        torch.testing.assert_close(found, expected)
    with pytest.raises(NotImplementedError, match="a row gradient cannot be changed so"):
        one.sqrt_()
    with pytest.raises(NotImplementedError, match="a row gradient cannot be changed so"):
        one.mul_(torch.ones(WIDTH, dtype=torch.float64))
