from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch_geometric import EdgeIndex

from bm3_pyg.errors import DataError
from bm3_pyg.ops import build_graph
from bm3_pyg.ops.graph import PART_WORK


def random_edges(num_users: int = 53, num_items: int = 75, count: int = 220) -> tuple[Tensor, int, int]:
    """Interactions with repetitions; the last user and the last item have none."""
    random = torch.Generator().manual_seed(0)
    users = torch.randint(num_users - 1, (count,), generator=random)
    items = torch.randint(num_items - 1, (count,), generator=random)
    return torch.stack([users, items]), num_users, num_items


def test_every_form_of_interactions_gives_the_same_graph() -> None:
    edge_index, num_users, num_items = random_edges()
    expected = build_graph(edge_index, num_users, num_items)
    coo = torch.sparse_coo_tensor(edge_index, torch.ones(edge_index.size(1)), (num_users, num_items))
    sparse_tensor = SimpleNamespace(  # what torch_sparse.SparseTensor offers
        sizes=lambda: [num_users, num_items], coo=lambda: (edge_index[0], edge_index[1], None)
    )
    forms = [
        edge_index.int(),
        edge_index[:, torch.randperm(edge_index.size(1))],
        EdgeIndex(edge_index, sparse_size=(num_users, num_items)).sort_by("row").values,
        coo,
        coo.coalesce().to_sparse_csr(),
        sparse_tensor,
    ]
    for form in forms:
        graph = build_graph(form, num_users, num_items)
        for ours, theirs in ((graph.by_user, expected.by_user), (graph.by_item, expected.by_item)):
            assert torch.equal(ours.indptr, theirs.indptr)
            assert torch.equal(ours.indices, theirs.indices)
            assert torch.equal(ours.row_scale, theirs.row_scale)
    assert expected.by_user.indices.dtype == torch.int32


@pytest.mark.parametrize(
    ("edge_index", "message"),
    [
        (torch.tensor([[0, 5], [0, 1]]), "user 5, expected ids from 0 to 4"),
        (torch.tensor([[0, 1], [-1, 1]]), "item -1, expected ids from 0 to 6"),
        (torch.zeros(3, 2, dtype=torch.long), r"expected an integer tensor \[2, E\]"),
        (torch.zeros(2, 2), "expected an integer tensor"),
        ([[0], [0]], "got list, expected a tensor"),
        (torch.eye(5).to_sparse(), r"a matrix \[5, 5\], expected \[5, 7\]"),
    ],
)
def test_bad_interactions_are_named(edge_index: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        build_graph(edge_index, 5, 7)


@pytest.mark.parametrize("kernels", ["torch", "torch_sparse"])
def test_halves_are_the_normalised_adjacency(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernels == "torch_sparse":
        pytest.importorskip("torch_sparse")
    monkeypatch.setenv("BM3_KERNELS", kernels)
    edge_index, num_users, num_items = random_edges()
    dense = torch.zeros(num_users, num_items, dtype=torch.double)
    dense[edge_index[0], edge_index[1]] = 1
    dense *= dense.sum(1, keepdim=True).clamp(min=1).rsqrt() * dense.sum(0).clamp(min=1).rsqrt()
    graph = build_graph(edge_index, num_users, num_items)
    torch.testing.assert_close(graph.by_user.times(torch.eye(num_items, dtype=torch.double)), dense)
    torch.testing.assert_close(graph.by_item.times(torch.eye(num_users, dtype=torch.double)), dense.T)


def test_edge_index_holds_each_interaction_once_by_user() -> None:
    edge_index, num_users, num_items = random_edges()
    pairs = sorted(set(zip(*edge_index.tolist(), strict=True)))
    assert len(pairs) < edge_index.size(1)
    result = build_graph(edge_index, num_users, num_items).edge_index()
    assert result.dtype == torch.int64
    assert list(zip(*result.tolist(), strict=True)) == pairs


def test_both_directions_stand_in_one_id_space() -> None:
    graph = build_graph(torch.tensor([[0, 2, 2], [1, 0, 1]]), 3, 2)
    assert graph.both_directions().tolist() == [[0, 2, 2, 4, 3, 4], [4, 3, 4, 0, 2, 2]]


def test_parts_cover_every_row_once_with_about_equal_work() -> None:
    for half in (build_graph(*case).by_user for case in (random_edges(), random_edges(20_000, 8_000, 90_000))):
        parts, rows = half.parts, half.row_scale.numel()
        assert [row for low, high in parts for row in range(low, high)] == list(range(rows))
        work = [int(half.indptr[high] - half.indptr[low]) + 2 * (high - low) for low, high in parts]
        assert max(work) <= PART_WORK
        assert max(work) <= 1.1 * min(work)
    assert len(parts) > 1


def test_copies_share_the_graph() -> None:
    graph = build_graph(*random_edges())
    assert copy.deepcopy(graph) is graph
    assert graph.to("cpu") is graph
    meta = graph.to("meta")
    assert meta.by_item.indices.device.type == meta.by_user.row_scale.device.type == "meta"
