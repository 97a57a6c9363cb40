r"""Light graph convolution over a bipartite graph, :math:`H = \frac{1}{L+1} \sum_{l=0}^{L} \hat{A}^l E`.

:math:`\hat{A} = D^{-1/2} A D^{-1/2}` is symmetric, so H is a symmetric function of E and its backward is the same
computation on the gradient: nothing is transposed or normalised again. With R the users' half of :math:`\hat{A}`,
Horner's rule takes one pass per layer,

.. math::
    W^{(0)} = E, \qquad W^{(l+1)} = E + \hat{A} W^{(l)}
        = [E_U + R W^{(l)}_I; \; E_I + R^T W^{(l)}_U], \qquad H = W^{(L)} / (L + 1),

and every pass reads and writes each row once, without intermediate sums.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bm3_pyg.errors import DataError
from bm3_pyg.ops.backend import backend_for
from bm3_pyg.ops.cpu import parallel
from bm3_pyg.ops.csr import add_rows
from bm3_pyg.ops.graph import Graph, Half
from bm3_pyg.ops.precision import full_precision


@full_precision
def propagate(
    graph: Graph, users: Tensor, items: Tensor, num_layers: int, *, residual: bool = False
) -> tuple[Tensor, Tensor]:
    r"""The mean of L + 1 layers of propagation, :math:`\frac{1}{L+1} \sum_{l=0}^{L} \hat{A}^l [E_U; E_I]`.

    Isolated nodes have zero rows in :math:`\hat{A}`. Differentiable any number of times.

    Args:
        graph: from :func:`build_graph`.
        users: E_U [U, D].
        items: E_I [I, D].
        num_layers: L, 0 or more.
        residual: add E_I to the items' result, as BM3 does.

    Returns:
        H_U [U, D] and H_I [I, D].

    Raises:
        DataError: if the tables do not fit the graph.
    """
    _check(graph, users, items, num_layers)
    result: tuple[Tensor, Tensor] = _Propagate.apply(_Layers(graph, num_layers, residual), users, items)
    return result


@full_precision
def propagate_rows(
    graph: Graph,
    users: Tensor,
    items: Tensor,
    num_layers: int,
    user_rows: Tensor,
    item_rows: Tensor,
    *,
    residual: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Some rows of :func:`propagate`'s result, and the norms of all of it.

    The same as ``H_U, H_I = propagate(...)`` and ``H_U[user_rows], H_I[item_rows], H_U.norm(), H_I.norm()``, for a
    training step that reads few rows and regularises all: the norms are taken while H is written, and the backward
    brings the gradients of rows and norms together in one dense buffer,

    .. math::
        \frac{\partial L}{\partial H} = \frac{\partial L}{\partial \lVert H \rVert} \frac{H}{\lVert H \rVert}
        + \text{scatter}\Big(\frac{\partial L}{\partial H_{rows}}\Big).

    Differentiable once.

    Args:
        graph, users, items, num_layers, residual: as for :func:`propagate`.
        user_rows: [u] user ids.
        item_rows: [i] item ids.

    Returns:
        H_U[user_rows] [u, D], H_I[item_rows] [i, D], and the scalars :math:`\lVert H_U \rVert_F, \lVert H_I \rVert_F`.
    """
    _check(graph, users, items, num_layers)
    layers = _Layers(graph, num_layers, residual)
    result: tuple[Tensor, Tensor, Tensor, Tensor] = _PropagateRows.apply(layers, users, items, user_rows, item_rows)
    return result


class _Layers(NamedTuple):
    """What propagates: see :func:`propagate`."""

    graph: Graph
    num_layers: int
    residual: bool


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layers: _Layers, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        ctx.layers = layers
        return _mean_of_layers(layers, users, items, norms=False)[:2]

    @staticmethod
    @full_precision
    def backward(ctx: Any, users: Tensor, items: Tensor) -> tuple[None, Tensor, Tensor]:
        users, items = _Propagate.apply(ctx.layers, users, items)
        return None, users, items


class _PropagateRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, layers: _Layers, users: Tensor, items: Tensor, user_rows: Tensor, item_rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        hidden_users, hidden_items, user_norm, item_norm = _mean_of_layers(layers, users, items, norms=True)
        ctx.layers = layers
        ctx.save_for_backward(hidden_users, hidden_items, user_norm, item_norm, user_rows, item_rows)
        ctx.set_materialize_grads(False)
        return hidden_users[user_rows], hidden_items[item_rows], user_norm, item_norm

    @staticmethod
    @once_differentiable
    @full_precision
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        graph = ctx.layers.graph
        hidden_users, hidden_items, user_norm, item_norm, user_rows, item_rows = ctx.saved_tensors
        users, items, of_user_norm, of_item_norm = gradients
        users, items, *_ = _mean_of_layers(
            ctx.layers,
            _gradient(graph, hidden_users, user_norm, user_rows, users, of_user_norm),
            _gradient(graph, hidden_items, item_norm, item_rows, items, of_item_norm),
            norms=False,
        )
        return None, users, items, None, None


def _gradient(
    graph: Graph, hidden: Tensor, norm: Tensor, rows: Tensor, of_rows: Tensor | None, of_norm: Tensor | None
) -> Tensor:
    """Gradient of ``hidden`` [N, D] from those of its ``rows`` and of its ``norm``, whose subgradient at 0 is 0."""
    dense = graph.memory.empty_like(hidden)
    if of_norm is None:
        dense.zero_()
    else:
        torch.mul(hidden, torch.where(norm > 0, of_norm / norm, 0), out=dense)
    return dense if of_rows is None else add_rows(dense, rows, of_rows)


class _Product(NamedTuple):
    """``alpha x + beta M w``, M being one half of A-hat: x [N, D], w [M, D]."""

    half: Half
    x: Tensor
    w: Tensor
    alpha: float
    beta: float


def _mean_of_layers(
    layers: _Layers, users: Tensor, items: Tensor, norms: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """H_U and H_I with their norms, or with zeros for norms nobody asked for."""
    graph, num_layers, residual = layers
    users, items = users.detach().contiguous(), items.detach().contiguous()
    compute = _compiled if backend_for(users) == "numba" else _by_torch
    share, extra = 1 / (num_layers + 1), 1.0 if residual else 0.0
    if num_layers == 0:
        hidden_users, hidden_items = users.clone(), items * (1 + extra)
        return hidden_users, hidden_items, hidden_users.norm(), hidden_items.norm()
    last_users, last_items = users, items
    for _ in range(num_layers - 1):
        (last_users, _), (last_items, _) = compute(
            graph,
            _Product(graph.by_user, users, last_items, 1, 1),
            _Product(graph.by_item, items, last_users, 1, 1),
            norms=False,
        )
    (hidden_users, user_norm), (hidden_items, item_norm) = compute(
        graph,
        _Product(graph.by_user, users, last_items, share, share),
        _Product(graph.by_item, items, last_users, share + extra, share),
        norms=norms,
    )
    return hidden_users, hidden_items, user_norm, item_norm


def _compiled(graph: Graph, *products: _Product, norms: bool) -> list[tuple[Tensor, Tensor]]:
    from bm3_pyg.ops.numba_kernels import layer

    results, calls = [], []
    for half, x, w, alpha, beta in products:
        out, squares = graph.memory.empty_like(x), np.zeros(len(half.parts))
        operands = (half.indptr, half.indices, half.row_scale.to(x.dtype), half.column_scale.to(x.dtype), x, w)
        arrays = [tensor.numpy() for tensor in operands]
        number = arrays[-1].dtype.type
        for part, (low, high) in enumerate(half.parts):
            calls.append((*arrays, number(alpha), number(beta), out.numpy(), squares, norms, part, low, high))
        results.append((out, squares))
    parallel(layer, calls)
    return [(out, out.new_tensor(math.sqrt(squares.sum()))) for out, squares in results]


def _by_torch(graph: Graph, *products: _Product, norms: bool) -> list[tuple[Tensor, Tensor]]:
    results = []
    for half, x, w, alpha, beta in products:
        out = half.times(w).mul_(beta).add_(x, alpha=alpha)
        results.append((out, torch.linalg.vector_norm(out) if norms else out.new_zeros(())))
    return results


def _check(graph: Graph, users: Tensor, items: Tensor, num_layers: int) -> None:
    shapes = [list(users.shape), list(items.shape)]
    if users.dim() != 2 or shapes != [[graph.num_users, users.size(1)], [graph.num_items, users.size(1)]]:
        expected = f"[{graph.num_users}, D] and [{graph.num_items}, D]"
        raise DataError(f"propagation: got tables {shapes[0]} and {shapes[1]}, expected {expected}")
    if users.dtype != items.dtype or not users.is_floating_point():
        raise DataError(f"propagation: got tables of {users.dtype} and {items.dtype}, expected one floating-point type")
    if num_layers < 0:
        raise DataError(f"propagation: got {num_layers} layers, expected 0 or more")
