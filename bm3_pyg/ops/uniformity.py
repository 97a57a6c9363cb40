"""How evenly rows spread over the sphere, with its gradient found on the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

from bm3_pyg.ops.precision import full_precision

BLOCK = 512  # rows whose pairs are looked at together


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
    result: Tensor = _Uniformity.apply(normalize(rows), weight)  # type: ignore[no-untyped-call]
    return result


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
