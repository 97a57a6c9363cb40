"""The kernel behind :func:`bm3_pyg.ops.mean_cosine` for CUDA tensors, in Triton; the equations stand there.

A program takes ROWS pairs and writes its share of the value to a place of its own; the shares are added by PyTorch in
a fixed order, so results are reproducible.

Tested in Triton's interpreter, not measured on a GPU.
"""

# No deferred annotations here: the interpreter looks for tl.constexpr itself.
import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_DIM = 128  # a pair's rows stay in registers
ROWS = 16


def mean_cosine(
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
    _mean_cosine[(len(shares),)](*operands, EPS=eps, ROWS=ROWS, BLOCK=block)
    return torch.sum(shares), unit


@triton.jit
def _mean_cosine(  # type: ignore[no-untyped-def]
    a,
    b,
    a_rows,
    b_rows,
    weight,
    unit,
    shares,
    pairs,
    dim,
    EPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
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
