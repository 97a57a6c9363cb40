"""Products by torch_sparse, beside dense ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bm3_pyg.ops import build_graph, propagate

torch_sparse = pytest.importorskip("torch_sparse")


def twin(edge_index: Tensor, users: Tensor, items: Tensor, num_layers: int) -> tuple[Tensor, Tensor]:
    """Dense A-hat, one layer after the other."""
    half = torch.zeros(len(users), len(items), dtype=users.dtype)
    half[edge_index[0], edge_index[1]] = 1
    half = half * half.sum(1, keepdim=True).clamp(min=1).rsqrt() * half.sum(0).clamp(min=1).rsqrt()
    layers = [(users, items)]
    for _ in range(num_layers):
        layers.append((half @ layers[-1][1], half.T @ layers[-1][0]))
    mean_users, mean_items = (torch.stack(side).mean(0) for side in zip(*layers, strict=True))
    return mean_users, mean_items


def random_edges() -> tuple[Tensor, int, int]:
    """Interactions with repetitions; the last user and the last item have none."""
    random = torch.Generator().manual_seed(0)
    return torch.stack([torch.randint(n - 1, (220,), generator=random) for n in (53, 75)]), 53, 75


def tables(num_users: int, num_items: int, dim: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    users, items = (torch.randn(n, dim, generator=random, dtype=torch.double) for n in (num_users, num_items))
    return users.requires_grad_(), items.requires_grad_()


def weigh(users: Tensor, items: Tensor) -> Tensor:
    """A scalar whose gradient differs from entry to entry."""
    return (users.sin() * torch.linspace(1, 2, users.numel(), dtype=users.dtype).view_as(users)).sum() + (
        items**2 * torch.linspace(-1, 1, items.numel(), dtype=items.dtype).view_as(items)
    ).sum()


def test_torch_sparse_is_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_KERNELS", "torch_sparse")
    edge_index, num_users, num_items = random_edges()
    matrix = torch_sparse.SparseTensor(row=edge_index[0], col=edge_index[1], sparse_sizes=(num_users, num_items))
    inputs = tables(num_users, num_items, 8)
    result = propagate(build_graph(matrix, num_users, num_items), *inputs, 2)
    expected = twin(edge_index, *inputs, 2)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(*(torch.autograd.grad(weigh(*x), inputs) for x in (result, expected)))


@pytest.mark.parametrize("weighted", [False, True])
def test_weighted_sum_is_the_dense_product(weighted: bool) -> None:
    from bm3_pyg.ops.fused import weighted_sum

    edges, num_rows, num_columns = random_edges()
    edges = edges.unique(dim=1)
    x = torch.randn(num_columns, 8, dtype=torch.double, requires_grad=True)
    value = torch.rand(edges.size(1), dtype=torch.double) if weighted else None
    sparse = torch_sparse.SparseTensor(row=edges[0], col=edges[1], value=value, sparse_sizes=(num_rows, num_columns))
    dense = torch.zeros(num_rows, num_columns, dtype=torch.double)
    dense[edges[0], edges[1]] = 1 if value is None else value
    result, expected = weighted_sum(x, sparse), dense @ x
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y.sin().sum(), x) for y in (result, expected)))
