"""The kernels for CUDA tensors, in Triton. Import only where :func:`bm3_pyg.ops.backend.backend_for` says ``triton``.

The equations stand where the kernels are called: :mod:`bm3_pyg.optim.rows` and :mod:`~bm3_pyg.ops.loss`.
A program owns one row's BLOCK columns, or ROWS pairs of the cosine; no two write the same element, and what several
have computed is added by PyTorch in a fixed order, so results are reproducible. Numbers that change from batch to batch
are not specialised on, so a kernel is compiled once for each type and dimension.

Tested in Triton's interpreter and compiled for sm_80 and sm_90, not measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_BLOCK = 1024  # columns of a row in one program
LARGEST_DIM = 128  # columns of a pair, whose rows stay in registers
ROWS = 16  # pairs in one program


def over_rows(kernel: Any, shape: Sequence[int], *operands: Any, **constants: int) -> None:
    """Run :func:`catch_up_rows` or :func:`update_rows` on rows of ``shape`` [n, d]."""
    count, dim = shape
    if count and dim:
        block = min(LARGEST_BLOCK, int(triton.next_power_of_2(dim)))
        kernel[(count, triton.cdiv(dim, block))](*operands, dim, BLOCK=block, **constants)


@triton.jit(do_not_specialize=["step"], do_not_specialize_on_alignment=["rows", "last"])
def catch_up_rows(
    x, m, v, rows, last, step, sizes, widths, decay, shrink, terms, small, tolerance, out, dim,
    TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``out[i] = x[rows[i]] - m[rows[i]] * S_i(sqrt(v[rows[i]]))``, row i having been touched last at ``last[i]``.

    In single precision the sum of a long sleep is that of the two nodes of Gauss' rule where they meet the tolerance,
    which costs what some six terms do; any other is taken term by term, smallest first.
    """
    i = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < dim
    place = tl.load(rows + i) * dim + column
    value = tl.load(x + place, mask=inside)
    start = tl.load(last + i)
    count = tl.where(start > 0, tl.minimum(step - start, terms), 0)
    if count > 0:
        first = tl.load(m + place, mask=inside)
        s = tl.sqrt(tl.load(v + place, mask=inside, other=0.0))
        eps = tl.load(small)
        total = tl.zeros_like(s)
        if s.dtype == tl.float32:  # noqa: SIM102
            if count > 8:
                after = tl.arange(0, TERMS)
                owed = after < count
                n = tl.load(decay + after, owed, 0.0) * tl.load(sizes + start + 1 + after, owed, 0.0)
                a = tl.load(shrink + after, owed, 1.0) * tl.load(widths + start + 1 + after, owed, 1.0)
                mass = tl.sum(n, 0)
                centre = tl.sum(n * a, 0) / mass
                apart = a - centre
                weight = n * apart * apart
                spread = tl.sum(weight, 0) / mass
                next_centre = tl.sum(weight * a, 0) / (mass * spread)
                # The nodes are the eigenvalues of [[centre, sqrt(spread)], [sqrt(spread), next_centre]].
                half = (next_centre - centre) / 2
                root = tl.sqrt(half * half + spread)
                a1, a2 = centre + half - root, centre + half + root
                n1 = mass * (root + half) / (2 * root)
                n2 = mass - n1
                exact = tl.sum(n / a, 0)
                if tl.abs(n1 / a1 + n2 / a2 - exact) <= tolerance * exact:
                    total = n1.to(s.dtype) / (a1.to(s.dtype) * s + eps)
                    total += n2.to(s.dtype) / (a2.to(s.dtype) * s + eps)
                    count = 0
        for passed in range(0, count):
            j = count - passed
            term = tl.load(decay + j - 1) * tl.load(sizes + start + j)
            width = tl.load(shrink + j - 1) * tl.load(widths + start + j)
            total += term.to(s.dtype) / (width.to(s.dtype) * s + eps)
        value -= first * total
    tl.store(out + i * dim + column, value, mask=inside)


@triton.jit(do_not_specialize=["step"], do_not_specialize_on_alignment=["rows", "decay1", "decay2"])
def update_rows(x, m, v, last, rows, current, gradient, decay1, decay2, step, scalars, dim, BLOCK: tl.constexpr):
    """Adam's step on the rows that are not negative, in place; ``scalars`` are those of ``AdamStep`` from size on."""
    i = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + i)
    if row >= 0:
        size, width, gain1 = tl.load(scalars), tl.load(scalars + 1), tl.load(scalars + 2)
        gain2, eps = tl.load(scalars + 3), tl.load(scalars + 4)
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = column < dim
        place, here = row * dim + column, i * dim + column
        g = tl.load(gradient + here, mask=inside, other=0.0)
        first = tl.load(decay1 + i) * tl.load(m + place, mask=inside, other=0.0) + gain1 * g
        second = tl.load(decay2 + i) * tl.load(v + place, mask=inside, other=0.0) + gain2 * g * g
        moved = tl.load(current + here, mask=inside) - size * first / (width * tl.sqrt(second) + eps)
        tl.store(m + place, first, mask=inside)
        tl.store(v + place, second, mask=inside)
        tl.store(x + place, moved, mask=inside)
        if tl.program_id(1) == 0:
            tl.store(last + row, step)


def weighted_cosine(
    a: Tensor,
    b: Tensor,
    a_rows: Tensor | None,
    b_rows: Tensor | None,
    weight: Tensor | None,
    eps: float,
    with_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    """The value, a scalar, and its gradient in each pair's row of ``a``, [P, D] before any are added up."""
    pairs = a.shape[0] if a_rows is None else a_rows.numel()
    unit = a.new_empty(pairs, a.shape[1]) if with_gradient else None
    if pairs == 0:
        return a.new_zeros(()), unit
    a, b = a.contiguous(), b.contiguous()
    shares = a.new_empty(triton.cdiv(pairs, ROWS))
    block = int(triton.next_power_of_2(max(1, a.shape[1])))
    operands = (a, b, a_rows, b_rows, weight, unit, shares, pairs, a.shape[1])
    _weighted_cosine[(len(shares),)](*operands, EPS=eps, ROWS=ROWS, BLOCK=block)
    return torch.sum(shares), unit


@triton.jit(do_not_specialize=["pairs"], do_not_specialize_on_alignment=["a_rows", "b_rows", "weight"])
def _weighted_cosine(
    a, b, a_rows, b_rows, weight, unit, shares, pairs, dim, EPS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    pair = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    there = pair < pairs
    inside = there[:, None] & (column < dim)[None, :]
    i, j = pair, pair
    if a_rows is not None:
        i = tl.load(a_rows + pair, mask=there, other=0)
    if b_rows is not None:
        j = tl.load(b_rows + pair, mask=there, other=0)
    x = tl.load(a + i[:, None] * dim + column[None, :], mask=inside, other=0.0)
    y = tl.load(b + j[:, None] * dim + column[None, :], mask=inside, other=0.0)
    smallest, one = tl.full([ROWS], EPS, x.dtype), tl.full([ROWS], 1.0, x.dtype)
    norm = tl.sqrt(tl.sum(x * x, axis=1))
    x_scale = one / tl.maximum(norm, smallest)
    scale = x_scale / tl.maximum(tl.sqrt(tl.sum(y * y, axis=1)), smallest)
    cosine = tl.sum(x * y, axis=1) * scale
    share = tl.where(there, one / pairs, 0.0)
    if weight is not None:
        share = tl.load(weight + pair, mask=there, other=0.0)
    if unit is not None:
        along = tl.where(norm > smallest, cosine * x_scale * x_scale, 0.0)  # below EPS the norm is a constant
        slope = (y * scale[:, None] - x * along[:, None]) * share[:, None]
        tl.store(unit + pair[:, None] * dim + column[None, :], slope, mask=inside)
    tl.store(shares + tl.program_id(0), tl.sum(cosine * share, axis=0))
