"""The item-item graph against a dense matrix made of loops."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from bm3_pyg.nn.item_graph import item_graph
from bm3_pyg.ops.neighbours import nearest_rows


def twin(tables: list[Tensor], k: int) -> Tensor:
    count = len(tables[0])
    matrix = torch.zeros(count, count, dtype=torch.float64)
    for table in tables:
        for i, neighbours in enumerate(nearest_rows(table, k)[0].tolist()):
            for j in neighbours:
                matrix[i, j] += 1 / len(neighbours) / len(tables)
    return matrix


@pytest.fixture(params=["numba", "torch", "torch_sparse"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch_sparse":
        pytest.importorskip("torch_sparse")
    monkeypatch.setenv("BM3_KERNELS", request.param)
    torch.manual_seed(0)


@pytest.mark.parametrize(("count", "k"), [(1, 3), (2, 1), (30, 4), (9, 50)])
def test_value_and_gradient_are_those_of_a_dense_product(count: int, k: int) -> None:
    """The modalities share neighbours, and some rows are equal or zero."""
    image = torch.randn(count, 6, dtype=torch.float64)
    image[count // 2 :: 3] = image[0].clone()
    tables = [image, image + 0.3 * torch.randn(count, 6, dtype=torch.float64), torch.zeros(count, 2)]
    items = torch.randn(count, 5, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(count, 5, dtype=torch.float64)
    matrix = twin(tables, k)
    found = item_graph(tables, k).smooth(items)
    torch.testing.assert_close(found, matrix @ items)
    (gradient,) = torch.autograd.grad(found, items, slope)
    torch.testing.assert_close(gradient, matrix.T @ slope)


def test_rows_are_means_without_the_item_itself() -> None:
    graph = item_graph([torch.randn(20, 4)], 3)
    torch.testing.assert_close(graph.smooth(torch.ones(20, 1)), torch.ones(20, 1))
    own = graph.smooth(torch.eye(20)).diagonal()
    assert not own.any()


def test_copies_share_the_graph() -> None:
    graph = item_graph([torch.randn(20, 4)], 3)
    assert copy.deepcopy(graph) is graph
    assert graph.to("cpu") is graph
