"""Kernels over ids against loops, ties and empty rows among what they are given; for both kinds of kernels."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bm3_pyg.ops import build_graph, masked_topk, propagate
from bm3_pyg.ops.csr import CSR, absent, gaps, offsets
from bm3_pyg.ops.propagation import propagate_rows


@pytest.fixture(params=["numba", "torch"], autouse=True, scope="module")
def _backend(request: pytest.FixtureRequest) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BM3_KERNELS", request.param)
        yield


def csr(rows: list[list[int]]) -> CSR:
    return CSR(
        offsets(torch.tensor([*map(len, rows)])), torch.tensor([i for row in rows for i in row], dtype=torch.long)
    )


@st.composite
def held(draw: st.DrawFn) -> tuple[int, list[list[int]]]:
    """A number of ids, and rows of some of them, ascending."""
    size = draw(st.integers(1, 12))
    rows = draw(st.lists(st.lists(st.integers(0, size - 1), unique=True).map(sorted), min_size=1, max_size=8))
    return size, rows


@given(held())
def test_absent_ids_by_their_rank(drawn: tuple[int, list[list[int]]]) -> None:
    size, rows = drawn
    matrix = csr(rows)
    row_gaps = gaps(matrix, size)
    for at, row in enumerate(rows):
        free = [one for one in range(size) if one not in row]
        assert absent(matrix.indptr, row_gaps, size, torch.tensor(at), torch.arange(len(free))).tolist() == free


@given(held(), st.data())
def test_entries_of_any_rows(drawn: tuple[int, list[list[int]]], data: st.DataObject) -> None:
    _, rows = drawn
    asked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    position, found = csr(rows).entries(torch.tensor(asked, dtype=torch.long))
    expected = [(at, one) for at, row in enumerate(asked) for one in rows[row]]
    assert list(zip(position.tolist(), found.tolist(), strict=True)) == expected


SCORE = st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.0, -1.0, math.inf, -math.inf, 1e-38, -1e38])


@given(held(), st.data(), st.sampled_from([torch.float32, torch.float64]))
def test_topk_is_a_stable_sort(drawn: tuple[int, list[list[int]]], data: st.DataObject, dtype: torch.dtype) -> None:
    """Ties by id; infinite scores; hidden items last, also where nothing else is left; k beyond the items."""
    size, rows = drawn
    asked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6))
    scores = data.draw(
        st.lists(st.lists(SCORE, min_size=size, max_size=size), min_size=len(asked), max_size=len(asked))
    )
    k = data.draw(st.integers(1, 2 * size))
    values, ids = masked_topk(
        torch.tensor(scores, dtype=dtype).view(len(asked), size),
        k,
        csr(rows),
        torch.tensor(asked, dtype=torch.long),
    )
    assert values.shape == ids.shape == (len(asked), min(k, size))
    for row, line, found, best in zip(asked, scores, ids.tolist(), values.tolist(), strict=True):
        shown = [-math.inf if one in rows[row] else float(torch.tensor(line[one], dtype=dtype)) for one in range(size)]
        expected = sorted(range(size), key=lambda one: (-shown[one], one))[:k]
        assert found == expected
        assert best == [shown[one] for one in expected]


@given(held(), st.data())
def test_topk_ranks_what_is_a_number_before_what_is_none(
    drawn: tuple[int, list[list[int]]], data: st.DataObject
) -> None:
    size, rows = drawn
    line = st.lists(SCORE | st.just(math.nan), min_size=size, max_size=size)
    scores = data.draw(st.lists(line, min_size=len(rows), max_size=len(rows)))
    values, ids = masked_topk(torch.tensor(scores), data.draw(st.integers(1, size)), csr(rows))
    assert ((ids >= 0) & (ids < size)).all()
    for hidden, given_scores, found, best in zip(rows, scores, ids.tolist(), values.tolist(), strict=True):
        shown = {one: score for one, score in enumerate(given_scores) if one not in hidden and score > -math.inf}
        expected = sorted(shown, key=lambda one: (-shown[one], one))[: len(found)]
        assert found[: len(expected)] == expected
        assert best[len(expected) :] == [-math.inf] * (len(found) - len(expected))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, int, Tensor]:
    users, items = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    pair = st.tuples(st.integers(0, users - 1), st.integers(0, items - 1))
    pairs = draw(st.lists(pair, max_size=25))
    return users, items, torch.tensor(pairs, dtype=torch.long).view(-1, 2).T


def dense(users: int, items: int, edges: Tensor, layers: int) -> Tensor:
    """(I + A + ... + A^L) / (L + 1), A being the normalised matrix of all nodes."""
    matrix = torch.zeros(users + items, users + items, dtype=torch.float64)
    matrix[edges[0], users + edges[1]] = matrix[users + edges[1], edges[0]] = 1
    scale = torch.where(matrix.sum(1) > 0, matrix.sum(1) ** -0.5, 0)
    matrix = scale[:, None] * matrix * scale
    return sum((torch.linalg.matrix_power(matrix, layer) for layer in range(layers + 1)), 0 * matrix) / (layers + 1)


@given(graphs(), st.integers(0, 4), st.integers(1, 5), st.booleans(), st.integers(0, 99))
def test_propagation_is_a_product_with_the_dense_matrix(
    drawn: tuple[int, int, Tensor], layers: int, dim: int, residual: bool, seed: int
) -> None:
    users, items, edges = drawn
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randn(users + items, dim, generator=generator, dtype=torch.float64, requires_grad=True)
    graph = build_graph(edges, users, items)
    expected = dense(users, items, edges, layers) @ ids
    expected = expected + residual * torch.cat([0 * ids[:users], ids[users:]])
    found = propagate(graph, ids[:users], ids[users:], layers, residual=residual)
    torch.testing.assert_close(torch.cat(found), expected)
    weight = torch.randn(users + items, dim, generator=generator, dtype=torch.float64)
    twin = torch.autograd.grad((expected * weight).sum(), ids, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad((torch.cat(found) * weight).sum(), ids)[0], twin)
    user_rows = torch.randint(users, (3,), generator=generator)
    item_rows = torch.randint(items, (4,), generator=generator)
    hidden_users, hidden_items, user_norm, item_norm = propagate_rows(
        graph, ids[:users], ids[users:], layers, user_rows, item_rows, residual=residual
    )
    torch.testing.assert_close(hidden_users, expected[user_rows])
    torch.testing.assert_close(hidden_items, expected[users + item_rows])
    torch.testing.assert_close(user_norm, expected[:users].norm())
    torch.testing.assert_close(item_norm, expected[users:].norm())
    loss = (hidden_users * weight[:3].mean()).sum() + hidden_items.square().sum() + 2 * user_norm + 3 * item_norm
    naive = (expected[user_rows] * weight[:3].mean()).sum() + expected[users + item_rows].square().sum()
    naive = naive + 2 * expected[:users].norm() + 3 * expected[users:].norm()
    torch.testing.assert_close(torch.autograd.grad(loss, ids)[0], torch.autograd.grad(naive, ids)[0])
