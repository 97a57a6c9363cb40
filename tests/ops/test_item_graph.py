"""The item graph against a dense matrix made of loops."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from bm3_pyg.errors import ConfigError
from bm3_pyg.ops.item_graph import item_graph


def twin(tables: list[Tensor], k: int, weights: list[float], own: bool) -> Tensor:
    """S in double precision: of equal cosines the lower id comes first, a zero row has cosine 0 with all."""
    count = len(tables[0])
    total = torch.zeros(count, count, dtype=torch.float64)
    for table, weight in zip(tables, weights, strict=True):
        cosine = (cosine_similarity(table[:, None], table[None], dim=2) * 2**20).round()
        for i in range(count):
            others = sorted((-float(cosine[i, j]), j) for j in range(count) if j != i)
            near = ([i] if own else []) + [j for _, j in others]
            for j in near[:k]:
                total[i, j] += weight / len(near[:k])
    return total


@pytest.fixture(params=["numba", "torch", "torch_sparse"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch_sparse":
        pytest.importorskip("torch_sparse")
    monkeypatch.setenv("BM3_KERNELS", request.param)
    torch.manual_seed(0)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("weights", [None, [0.1, 0.6, 0.3]])
@pytest.mark.parametrize(("count", "k"), [(1, 3), (2, 1), (12, 4), (9, 50)])
def test_value_and_gradient_are_those_of_a_dense_product(
    count: int, k: int, weights: list[float] | None, own: bool
) -> None:
    """The tables share neighbours, and some rows are equal or zero."""
    first = torch.randn(count, 6, dtype=torch.float64)
    first[count // 2 :: 3] = first[0].clone()
    tables = [first, first + 0.3 * torch.randn(count, 6, dtype=torch.float64), torch.zeros(count, 2)]
    items = torch.randn(count, 5, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(count, 5, dtype=torch.float64)
    matrix = twin(tables, k, weights or [1 / 3] * 3, own)
    found = item_graph(tables, k, weights, own=own).smooth(items)
    torch.testing.assert_close(found, matrix @ items)
    (gradient,) = torch.autograd.grad(found, items, slope)
    torch.testing.assert_close(gradient, matrix.T @ slope)


def test_copies_share_the_graph() -> None:
    graph = item_graph([torch.randn(20, 4)], 3)
    assert copy.deepcopy(graph) is graph
    assert graph.to("cpu") is graph


@pytest.mark.parametrize("own", [False, True])
def test_no_neighbours_are_refused(own: bool) -> None:
    with pytest.raises(ConfigError, match=r"^k: got 0, expected an integer at least 1"):
        item_graph([torch.randn(4, 2)], 0, own=own)
