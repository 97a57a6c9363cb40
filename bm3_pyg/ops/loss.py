"""The pieces of the loss: cosine of pairs of rows, dropout of targets, uniformity. Values bring their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

from bm3_pyg.ops.backend import backend_for
from bm3_pyg.ops.csr import add_rows
from bm3_pyg.ops.precision import full_precision

EPS = 1e-8  # smallest norm divided by, as in torch.nn.functional.cosine_similarity
BLOCK = 512  # rows whose pairs are looked at together


class Pairs(NamedTuple):
    """P pairs of a row of a [n, D] and a row of the target b [m, D]."""

    a_rows: Tensor | None = None  # [P]; all rows of a by default
    b_rows: Tensor | None = None  # [P] likewise
    weight: Tensor | None = None  # [P]; 1 / P by default


def weighted_cosine(
    a: Tensor, b: Tensor, a_rows: Tensor | None = None, b_rows: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """:func:`weighted_cosines` of one set of :class:`Pairs`, a scalar."""
    return weighted_cosines(a, b, [Pairs(a_rows, b_rows, weight)])[0]


@full_precision
def weighted_cosines(a: Tensor, b: Tensor, sets: Sequence[Pairs]) -> tuple[Tensor, ...]:
    r""":math:`\sum_p w_p \cos(a_{i_p}, b_{j_p})` of each set of pairs, the target b taken as a constant.

    The same as ``(F.cosine_similarity(a[a_rows], b.detach()[b_rows]) * weight).sum()`` at less than half the time:
    the gradient in a pair's row, :math:`w_p (\hat{b} - \cos \hat{a}) / \lVert a \rVert` with :math:`\hat{x} =
    x / \lVert x \rVert`, needs nothing that the value has not computed, and all sets add theirs to one buffer.
    Differentiable once. Reproducible on a GPU too.

    Args:
        a: [n, D] rows with gradient.
        b: [m, D] target rows; no gradient reaches them.
        sets: one or more.

    Returns:
        A scalar for each set.
    """
    result: tuple[Tensor, ...] = _WeightedCosines.apply(a, b, sets)
    return result


def dropout(x: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """``x`` [n, D] with each element 0 with probability ``rate``, else scaled by 1 / (1 - rate); no gradient flows.

    Compiled loops draw one number, the seed of a SplitMix64 stream, from ``generator`` (PyTorch's global one by
    default); elsewhere every element draws its own. Either way the generator's state decides the result.

    Args:
        x: [n, D].
        rate: in [0, 1).
        generator: on the device of ``x``.
    """
    x = x.detach()
    if rate == 0:
        return x
    scale = 1 / (1 - rate)
    if backend_for(x) != "numba":
        keep = torch.rand(x.shape, generator=generator, device=x.device) >= rate
        return (x * keep).mul_(scale)
    from bm3_pyg.ops import numba_kernels

    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    seed = torch.empty((), dtype=torch.int64).random_(generator=generator)
    values = x.contiguous().view(-1).numpy()
    number = values.dtype.type
    start, threshold = numba_kernels.words(int(seed), round(rate * 2**32))
    numba_kernels.drop(values, start, threshold, number(scale), out.view(-1).numpy())
    return out


@full_precision
def uniformity(rows: Tensor, weight: Tensor) -> Tensor:
    r""":math:`\log \sum_{p, q} w_p w_q e^{-2 \lVert x_p - x_q \rVert^2}` with :math:`x = r / \lVert r \rVert`.

    At most 0, where all rows point one way. Wang and Isola, `"Understanding Contrastive Representation Learning through
    Alignment and Uniformity on the Hypersphere" <https://arxiv.org/abs/2005.10242>`_, ICML 2020. Differentiable once;
    memory is that of BLOCK n numbers.

    Args:
        rows: [n, D] with gradient.
        weight: [n] of sum 1; no gradient reaches it.

    Returns:
        A scalar.
    """
    result: Tensor = _Uniformity.apply(normalize(rows), weight)
    return result


class _WeightedCosines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, sets: Sequence[Pairs]) -> tuple[Tensor, ...]:
        ctx.rows = a.size(0)
        values, units = zip(*(_with_unit_gradient(a, b, pairs, ctx.needs_input_grad[0]) for pairs in sets), strict=True)
        ctx.save_for_backward(*units, *(pairs.a_rows for pairs in sets))
        ctx.set_materialize_grads(False)
        return values

    @staticmethod
    @once_differentiable
    @full_precision
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        units, a_rows = ctx.saved_tensors[: len(gradients)], ctx.saved_tensors[len(gradients) :]
        total = units[0].new_zeros(ctx.rows, units[0].size(1))
        for unit, rows, gradient in zip(units, a_rows, gradients, strict=True):
            if gradient is not None:
                _add_scaled(total, rows, unit, gradient)
        return total, None, None


def _with_unit_gradient(a: Tensor, b: Tensor, pairs: Pairs, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """The value, and, if asked for, its gradient in each pair's row of ``a``, [P, D]."""
    backend = backend_for(a)
    if backend == "numba":
        return _compiled(a, b, pairs)
    if backend == "triton":
        from bm3_pyg.ops import triton_kernels

        if a.size(1) <= triton_kernels.LARGEST_DIM:
            return triton_kernels.weighted_cosine(a, b, *pairs, EPS, with_gradient)
    a_rows, b_rows, weight = pairs
    x = a if a_rows is None else a.index_select(0, a_rows)
    y = b if b_rows is None else b.index_select(0, b_rows)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    x_scale = norm.clamp(min=EPS).reciprocal_()
    scale = torch.linalg.vector_norm(y, dim=1, keepdim=True).clamp_(min=EPS).reciprocal_().mul_(x_scale)
    cosine = (x * y).sum(1, keepdim=True).mul_(scale)
    share = x.new_full((), 1 / max(1, x.size(0))) if weight is None else weight.unsqueeze(1)
    unit = None
    if with_gradient:
        along = cosine * x_scale.square() * (norm > EPS)  # below EPS the norm is a constant
        unit = (y * scale).addcmul_(x, along, value=-1).mul_(share)
    return (cosine * share).sum(), unit


def _compiled(a: Tensor, b: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    from bm3_pyg.ops.numba_kernels import cosines

    a, b = a.detach().contiguous(), b.detach().contiguous()
    first = _rows_of(a) if pairs.a_rows is None else pairs.a_rows.contiguous()
    second = _rows_of(b) if pairs.b_rows is None else pairs.b_rows.contiguous()
    count, weight = len(first), pairs.weight
    weights = a.new_full((count,), 1 / max(1, count)) if weight is None else weight.detach().contiguous()
    unit = a.new_empty(count, a.size(1))
    value = cosines(a.numpy(), b.numpy(), first.numpy(), second.numpy(), weights.numpy(), EPS, unit.numpy())
    return a.new_tensor(value), unit


def _add_scaled(out: Tensor, rows: Tensor | None, values: Tensor, scale: Tensor) -> None:
    """``out[rows[p]] += scale * values[p]`` for every p, in this order."""
    if backend_for(out) == "numba":
        from bm3_pyg.ops.numba_kernels import add_scaled

        places, arrays = _rows_of(values) if rows is None else rows.contiguous(), (out.numpy(), values.numpy())
        add_scaled(arrays[0], places.numpy(), arrays[1], arrays[0].dtype.type(scale.item()))
    elif rows is None:
        out.add_(values * scale)
    else:
        add_rows(out, rows, values * scale)


def _rows_of(x: Tensor) -> Tensor:
    return torch.arange(len(x), device=x.device)


class _Uniformity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, units: Tensor, weight: Tensor) -> Tensor:
        weighed = units * weight.unsqueeze(1)
        slope, potential = torch.empty_like(units), units.new_zeros(())
        for low in range(0, len(units), BLOCK):
            part = slice(low, low + BLOCK)
            # The squared distance of unit vectors is 2 - 2 cos.
            kernel = (units[part] @ units.T).sub_(1).mul_(4).exp_()
            potential += weight[part] @ (kernel @ weight)
            torch.mm(kernel, weighed, out=slope[part])
        ctx.save_for_backward(slope.mul_(weight.unsqueeze(1)).mul_(8 / potential))
        return potential.log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradient, None
