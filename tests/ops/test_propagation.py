from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from bm3_pyg.errors import DataError
from bm3_pyg.ops import Graph, build_graph, propagate, propagate_rows
from bm3_pyg.ops.cpu import SMALL

SHAPES = {
    "usual": (53, 75, 220),
    "few": (5, 4, 9),
    "one item": (9, 1, 5),
    "one user": (1, 9, 5),
    "one of each": (1, 1, 3),
    "no edges": (4, 3, 0),
}
BACKENDS = ("numba", "torch")


def twin(edge_index: Tensor, users: Tensor, items: Tensor, num_layers: int) -> tuple[Tensor, Tensor]:
    """Dense A-hat, one layer after the other."""
    split = users.size(0)
    adjacency = torch.zeros(split + items.size(0), split + items.size(0), dtype=users.dtype)
    adjacency[edge_index[0], edge_index[1] + split] = adjacency[edge_index[1] + split, edge_index[0]] = 1
    scale = adjacency.sum(1).clamp(min=1).rsqrt()
    layers = [torch.cat([users, items])]
    for _ in range(num_layers):
        layers.append(scale[:, None] * adjacency @ (scale[:, None] * layers[-1]))
    mean = torch.stack(layers).mean(0)
    return mean[:split], mean[split:]


def random_edges(shape: str, seed: int = 0) -> tuple[Tensor, int, int]:
    """Interactions with repetitions; the last user and the last item have none where there are others."""
    num_users, num_items, count = SHAPES[shape]
    random = torch.Generator().manual_seed(seed)
    users = torch.randint(max(1, num_users - 1), (count,), generator=random)
    items = torch.randint(max(1, num_items - 1), (count,), generator=random)
    return torch.stack([users, items]), num_users, num_items


def tables(num_users: int, num_items: int, dim: int, dtype: torch.dtype = torch.double) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    users, items = (torch.randn(n, dim, generator=random, dtype=torch.double) for n in (num_users, num_items))
    return users.to(dtype).requires_grad_(), items.to(dtype).requires_grad_()


def weigh(users: Tensor, items: Tensor) -> Tensor:
    """A scalar whose gradient differs from entry to entry."""
    return (users.sin() * torch.linspace(1, 2, users.numel(), dtype=users.dtype).view_as(users)).sum() + (
        items**2 * torch.linspace(-1, 1, items.numel(), dtype=items.dtype).view_as(items)
    ).sum()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BM3_KERNELS", request.param)
    return str(request.param)


@pytest.mark.parametrize("dim", [1, 7, 64, 128])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-12), (torch.float, 1e-5)])
@pytest.mark.usefixtures("backend")
def test_propagate_is_its_dense_twin(shape: str, dim: int, dtype: torch.dtype, tolerance: float) -> None:
    edge_index, num_users, num_items = random_edges(shape)
    graph, (users, items) = build_graph(edge_index, num_users, num_items), tables(num_users, num_items, dim, dtype)
    for num_layers in range(4):
        result, expected = propagate(graph, users, items, num_layers), twin(edge_index, users, items, num_layers)
        torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)
        gradients = (torch.autograd.grad(weigh(*hidden), (users, items)) for hidden in (result, expected))
        torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("num_layers", "residual"), [(0, True), (1, False), (1, True), (2, True)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-10), (torch.float, 2e-5)])
@pytest.mark.usefixtures("backend")
def test_rows_and_norms_are_those_of_the_whole(
    shape: str, num_layers: int, residual: bool, dtype: torch.dtype, tolerance: float
) -> None:
    edge_index, num_users, num_items = random_edges(shape)
    graph = build_graph(edge_index, num_users, num_items)
    inputs = tables(num_users, num_items, 64, dtype)
    user_rows, item_rows = torch.tensor([num_users - 1, 0, 0]), torch.arange(0, num_items, 2)

    rows = propagate_rows(graph, *inputs, num_layers, user_rows, item_rows, residual=residual)
    users, items = twin(edge_index, *inputs, num_layers)
    items = items + inputs[1] if residual else items
    expected = users[user_rows], items[item_rows], users.norm(), items.norm()
    torch.testing.assert_close(rows, expected, rtol=tolerance, atol=tolerance)

    def loss(users: Tensor, items: Tensor, user_norm: Tensor, item_norm: Tensor) -> Tensor:
        return weigh(users, items) + 3 * user_norm + user_norm * item_norm

    gradients = (torch.autograd.grad(loss(*outputs), inputs) for outputs in (rows, expected))
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("backend")
def test_gradients_match_finite_differences_twice() -> None:
    edge_index, num_users, num_items = random_edges("few")
    graph, (users, items) = build_graph(edge_index, num_users, num_items), tables(num_users, num_items, 3)

    def some_rows(users: Tensor, items: Tensor) -> tuple[Tensor, ...]:
        return propagate_rows(graph, users, items, 2, torch.tensor([0, 4]), torch.tensor([2]), residual=True)

    assert torch.autograd.gradcheck(some_rows, (users, items))
    assert torch.autograd.gradcheck(lambda u, i: propagate(graph, u, i, 2, residual=True), (users, items))
    assert torch.autograd.gradgradcheck(lambda u, i: propagate(graph, u.sin(), i, 1), (users, items))


@pytest.mark.usefixtures("backend")
def test_one_side_with_gradient_and_inputs_that_are_not_contiguous() -> None:
    edge_index, num_users, num_items = random_edges("usual")
    graph = build_graph(edge_index, num_users, num_items)
    users = torch.randn(64, num_users, dtype=torch.double, requires_grad=True)
    items = torch.randn(num_items, 128, dtype=torch.double)[:, ::2]
    result, expected = propagate(graph, users.T, items, 2), twin(edge_index, users.T, items, 2)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(*(torch.autograd.grad(weigh(*x), users) for x in (result, expected)))
    rows = propagate_rows(graph, users.T.detach(), items.requires_grad_(), 1, torch.tensor([0]), torch.tensor([1]))
    (gradient,) = torch.autograd.grad(rows[1].sum(), items)  # the norms take no part
    torch.testing.assert_close(
        gradient, torch.autograd.grad(twin(edge_index, users.T.detach(), items, 1)[1][1].sum(), items)[0]
    )


@pytest.mark.usefixtures("backend")
def test_norm_of_nothing_has_gradient_zero() -> None:
    graph = build_graph(*random_edges("usual"))
    users, items = torch.zeros(53, 4, requires_grad=True), torch.zeros(75, 4, requires_grad=True)
    *_, user_norm, item_norm = propagate_rows(graph, users, items, 1, torch.tensor([0]), torch.tensor([0]))
    (user_norm + item_norm).backward()
    assert users.grad is not None
    assert not users.grad.any()


def large() -> tuple[Graph, Tensor, Tensor]:
    """More than one part of work in each half, and tables large enough to be recycled."""
    random = torch.Generator().manual_seed(2)
    edge_index = torch.stack(
        [torch.randint(20_000, (90_000,), generator=random), torch.randint(8_000, (90_000,), generator=random)]
    )
    graph = build_graph(edge_index, 20_000, 8_000)
    assert min(len(graph.by_user.parts), len(graph.by_item.parts)) > 1
    users, items = torch.randn(20_000, 64, generator=random), torch.randn(8_000, 64, generator=random)
    assert items.numel() * 4 > SMALL
    return graph, users.requires_grad_(), items.requires_grad_()


def step(graph: Graph, users: Tensor, items: Tensor) -> list[Tensor]:
    rows = torch.arange(0, 8_000, 7)
    outputs = propagate_rows(graph, users, items, 2, rows, rows, residual=True)
    gradients = torch.autograd.grad(weigh(*outputs[:2]) + outputs[2] + 2 * outputs[3], (users, items))
    return [*outputs, *gradients]


@pytest.mark.usefixtures("backend")
def test_results_are_the_same_to_the_bit_for_any_number_of_threads() -> None:
    case, before = large(), torch.get_num_threads()
    first = step(*case)
    try:
        for threads in (1, 2, 3, before):
            torch.set_num_threads(threads)
            assert all(torch.equal(a, b) for a, b in zip(step(*case), first, strict=True))
    finally:
        torch.set_num_threads(before)


def test_results_kept_by_the_user_survive_later_calls() -> None:
    graph, users, items = large()
    rows = torch.arange(50)
    kept = propagate(graph, users, items, 2)
    copies = [x.detach().clone() for x in kept]
    first = propagate_rows(graph, users, items, 2, rows, rows)
    second = propagate_rows(graph, users * 2, items, 2, rows, rows)  # both alive: their buffers must differ
    expected = [torch.autograd.grad(propagate_rows(graph, users, items, 2, rows, rows)[2], users)[0] for _ in range(2)]
    again = [torch.autograd.grad(first[2], users, retain_graph=True)[0] for _ in range(2)]
    second[3].backward()
    for gradient in [*expected[1:], *again, torch.autograd.grad(first[2], users)[0]]:
        assert torch.equal(gradient, expected[0])
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


def test_threads_may_propagate_side_by_side() -> None:
    case = large()
    first, results = step(*case), []
    threads = [threading.Thread(target=lambda: results.append(step(*case))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(torch.equal(a, b) for result in results for a, b in zip(result, first, strict=True))


@pytest.mark.usefixtures("backend")
def test_tables_that_do_not_fit_are_refused() -> None:
    graph = build_graph(torch.tensor([[0], [0]]), 5, 7)
    with pytest.raises(DataError, match=r"expected \[5, D\] and \[7, D\]"):
        propagate(graph, torch.zeros(5, 4), torch.zeros(8, 4), 1)
    with pytest.raises(DataError, match="one floating-point type"):
        propagate(graph, torch.zeros(5, 4), torch.zeros(7, 4).double(), 1)
    with pytest.raises(DataError, match="-1 layers"):
        propagate_rows(graph, torch.zeros(5, 4), torch.zeros(7, 4), -1, torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(IndexError):
        propagate_rows(graph, torch.zeros(5, 4), torch.zeros(7, 4), 1, torch.tensor([5]), torch.tensor([0]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same() -> None:
    edge_index, num_users, num_items = random_edges("usual")
    graph, (users, items) = build_graph(edge_index, num_users, num_items).to("cuda"), tables(num_users, num_items, 64)
    result = propagate(graph, users.cuda(), items.cuda(), 2)
    torch.testing.assert_close([x.cpu() for x in result], list(twin(edge_index, users, items, 2)))
    assert graph.to("cuda") is graph
