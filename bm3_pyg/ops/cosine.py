"""Mean cosine of pairs of rows, with its gradient found on the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bm3_pyg.ops.backend import backend_for
from bm3_pyg.ops.places import add_rows
from bm3_pyg.ops.precision import full_precision

EPS = 1e-8  # smallest norm divided by, as in torch.nn.functional.cosine_similarity


@full_precision
def mean_cosine(
    a: Tensor, b: Tensor, a_rows: Tensor | None = None, b_rows: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    r""":math:`\sum_p w_p \cos(a_{i_p}, b_{j_p})`, the target b taken as a constant.

    The same as ``(F.cosine_similarity(a[a_rows], b.detach()[b_rows]) * weight).sum()`` at less than half the time:
    the gradient in a pair's row, :math:`w_p (\hat{b} - \cos \hat{a}) / \lVert a \rVert` with :math:`\hat{x} =
    x / \lVert x \rVert`, needs nothing that the value has not computed. Differentiable once. Reproducible on a GPU too.

    Args:
        a: [n, D] rows with gradient.
        b: [m, D] target rows; no gradient reaches them.
        a_rows: [P] the rows of ``a`` that pairs join; ``a`` itself by default.
        b_rows: [P] likewise for ``b``.
        weight: [P] weights of the pairs; 1 / P by default.

    Returns:
        A scalar.
    """
    result: Tensor = _MeanCosine.apply(a, b, a_rows, b_rows, weight)  # type: ignore[no-untyped-call]
    return result


class _MeanCosine(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, a_rows: Tensor | None, b_rows: Tensor | None, weight: Tensor | None
    ) -> Tensor:
        ctx.rows = a.size(0)
        if backend_for(a) == "triton":
            from bm3_pyg.ops import triton_cosine

            if a.size(1) <= triton_cosine.LARGEST_DIM:
                value, unit = triton_cosine.mean_cosine(a, b, a_rows, b_rows, weight, EPS, ctx.needs_input_grad[0])
                ctx.save_for_backward(unit, a_rows)
                return value
        if backend_for(a) == "numba":
            value, unit = _compiled(a, b, a_rows, b_rows, weight)
            ctx.save_for_backward(unit, a_rows)
            return value
        x = a if a_rows is None else a.index_select(0, a_rows)
        y = b if b_rows is None else b.index_select(0, b_rows)
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        x_scale = norm.clamp(min=EPS).reciprocal_()
        scale = torch.linalg.vector_norm(y, dim=1, keepdim=True).clamp_(min=EPS).reciprocal_().mul_(x_scale)
        cosine = (x * y).sum(1, keepdim=True).mul_(scale)
        share = x.new_full((), 1 / max(1, x.size(0))) if weight is None else weight.unsqueeze(1)
        if ctx.needs_input_grad[0]:
            along = cosine * x_scale.square() * (norm > EPS)  # below EPS the norm is a constant
            ctx.save_for_backward((y * scale).addcmul_(x, along, value=-1).mul_(share), a_rows)
        return (cosine * share).sum()

    @staticmethod
    @once_differentiable
    @full_precision
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        unit, a_rows = ctx.saved_tensors
        unit = unit * gradient
        if a_rows is not None:
            unit = add_rows(unit.new_zeros(ctx.rows, unit.size(1)), a_rows, unit)
        return unit, None, None, None, None


def _compiled(
    a: Tensor, b: Tensor, a_rows: Tensor | None, b_rows: Tensor | None, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    from bm3_pyg.ops.compiled_loss import cosines

    a, b = a.detach().contiguous(), b.detach().contiguous()
    first = torch.arange(len(a)) if a_rows is None else a_rows.contiguous()
    second = torch.arange(len(b)) if b_rows is None else b_rows.contiguous()
    pairs = len(first)
    weights = a.new_full((pairs,), 1 / max(1, pairs)) if weight is None else weight.detach().contiguous()
    unit = a.new_empty(pairs, a.size(1))
    value = cosines(a.numpy(), b.numpy(), first.numpy(), second.numpy(), weights.numpy(), EPS, unit.numpy())
    return a.new_tensor(value), unit
