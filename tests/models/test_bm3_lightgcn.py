"""BM3LightGCN against BM3 on the same graph, and against a dense implementation of LightGCN's calls."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric import EdgeIndex
from torch_geometric.nn import LGConv, LightGCN

from bm3_pyg import BM3, BM3LightGCN, build_optimizer
from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.models import bm3_lightgcn as lightgcn
from bm3_pyg.ops import Graph, build_graph

USERS, ITEMS, DIM = 11, 7, 6
NODES = USERS + ITEMS


def random_pairs(seed: int = 0) -> Tensor:
    """User ids above item ids [2, E], with an isolated user and item, and repeated interactions."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.randint(1, USERS, (30,), generator=generator)
    items = torch.randint(1, ITEMS, (30,), generator=generator)
    return torch.stack([users, items])[:, [*range(30), 3, 3]]


def one_way(seed: int = 0) -> Tensor:
    return random_pairs(seed) + torch.tensor([[0], [USERS]])


def both_ways(seed: int = 0) -> Tensor:
    """As in PyG's example: every interaction and its reverse."""
    return torch.cat([one_way(seed), one_way(seed).flip(0)], dim=1)


def pair(num_layers: int = 2, **options: Any) -> tuple[BM3, BM3LightGCN]:
    """A BM3 and a BM3LightGCN with the same parameters, in float64."""
    torch.manual_seed(num_layers)
    options |= {"modalities": {"image": torch.randn(ITEMS, 5)}, "num_layers": num_layers, "embedding_dim": DIM}
    model = BM3(USERS, ITEMS, random_pairs(), **copy.deepcopy(options)).double()
    view = BM3LightGCN(USERS, ITEMS, **options).double()
    view.bm3.load_state_dict(model.state_dict())
    return model, view


def dense_embedding(model: BM3, edges: Tensor) -> Tensor:
    """f of the layers' mean, by a dense matrix, with the residual on the items."""
    adjacency = torch.zeros(NODES, NODES, dtype=torch.float64)
    adjacency[edges[0], edges[1]] = adjacency[edges[1], edges[0]] = 1
    degree = adjacency.sum(1)
    scale = torch.where(degree > 0, degree.clamp(min=1).rsqrt(), 0)
    x = torch.cat([model.user_embedding, model.item_embedding])
    layers = [x]
    for _ in range(model.num_layers):
        layers.append(scale[:, None] * adjacency * scale @ layers[-1])
    hidden = torch.stack(layers).mean(0)
    hidden = torch.cat([hidden[:USERS], hidden[USERS:] + model.item_embedding])
    return hidden @ model.objective.predictor.weight.T + model.objective.predictor.bias


def csr(edges: Tensor) -> Tensor:
    return coo(edges).coalesce().to_sparse_csr()


def coo(edges: Tensor) -> Tensor:
    return torch.sparse_coo_tensor(edges, torch.ones(edges.size(1)), (NODES, NODES))


def sparse_tensor(edges: Tensor) -> Any:
    torch_sparse = pytest.importorskip("torch_sparse")
    return torch_sparse.SparseTensor(row=edges[0], col=edges[1], sparse_sizes=(NODES, NODES))


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda edges: edges.clone(),
    "int32": lambda edges: edges.int(),
    "edge_index": lambda edges: EdgeIndex(edges.clone(), sparse_size=(NODES, NODES)),
    "sorted edge_index": lambda edges: EdgeIndex(edges.clone(), sparse_size=(NODES, NODES)).sort_by("col").values,
    "csr": csr,
    "csc": lambda edges: coo(edges).coalesce().to_sparse_csc(),
    "coo": coo,
    "sparse_tensor": sparse_tensor,
    "adj_t": lambda edges: sparse_tensor(edges).t(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("edges", [both_ways(), one_way(), one_way().flip(0)], ids=["both", "one", "reverse"])
def test_every_form_and_direction_is_the_same_graph(form: str, edges: Tensor) -> None:
    model, view = pair()
    found = view.get_embedding(FORMS[form](edges))
    torch.testing.assert_close(found, torch.cat(model.embed()))
    torch.testing.assert_close(found, dense_embedding(model, edges))


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_losses_and_gradients_are_those_of_bm3(num_layers: int) -> None:
    model, view = pair(num_layers)
    pairs = random_pairs()[:, [0, 5, 5, 9]]
    masks = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    expected = model.loss(pairs[0], pairs[1], generator=masks[0])
    torch.manual_seed(3)
    graph, batch = both_ways(), pairs + torch.tensor([[0], [USERS]])
    batch[:, 1] = batch[:, 1].flip(0)
    losses = view.bootstrap_loss(graph, batch)
    for found, value in zip(losses, expected, strict=True):
        torch.testing.assert_close(found, value)
    expected.total.backward()
    losses.total.backward()
    gradients = dict(view.bm3.named_parameters())
    for name, parameter in model.named_parameters():
        ours, theirs = gradients[name].grad, parameter.grad
        assert ours is not None
        assert theirs is not None
        torch.testing.assert_close(ours, theirs, msg=name)


def test_forward_scores_the_given_pairs_or_all_edges() -> None:
    model, view = pair()
    nodes = dense_embedding(model, one_way())
    labels = torch.tensor([[0, 3, 12], [12, 15, 13]])
    torch.testing.assert_close(view(both_ways(), labels), (nodes[labels[0]] * nodes[labels[1]]).sum(-1))
    for graph in (both_ways(), FORMS["edge_index"](both_ways()), csr(both_ways())):
        rows, columns = graph.to_sparse_coo().indices() if graph.layout == torch.sparse_csr else graph
        torch.testing.assert_close(view(graph), (nodes[rows] * nodes[columns]).sum(-1))


def test_predict_link_is_the_rounded_sigmoid() -> None:
    model, view = pair()
    with torch.no_grad():
        model.user_embedding.mul_(5)
        view.bm3.user_embedding.mul_(5)
    edges = both_ways()
    nodes = dense_embedding(model, edges)
    expected = 1 / (1 + torch.exp(-(nodes[edges[0]] * nodes[edges[1]]).sum(-1)))
    torch.testing.assert_close(view.predict_link(edges, prob=True), expected)
    rounded = view.predict_link(edges)
    assert rounded.tolist() == [float(value > 0.5) for value in expected]
    assert set(rounded.tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("sources", [None, torch.tensor([4, 0, 4])])
@pytest.mark.parametrize("targets", [None, torch.arange(USERS, NODES), torch.tensor([16, 12, 14, 11])])
def test_recommend_by_brute_force(sources: Tensor | None, targets: Tensor | None) -> None:
    model, view = pair()
    nodes = dense_embedding(model, one_way()).tolist()
    found = view.recommend(both_ways(), sources, targets, k=3)
    expected = []
    for source in range(NODES) if sources is None else sources.tolist():
        choices = range(NODES) if targets is None else targets.tolist()
        scores = {choice: sum(a * b for a, b in zip(nodes[source], nodes[choice], strict=True)) for choice in choices}
        expected.append(sorted(scores, key=lambda choice: -scores[choice])[:3])
    assert found.tolist() == expected
    unsorted = view.recommend(both_ways(), sources, targets, k=3, sorted=False)
    assert unsorted.sort().values.tolist() == [sorted(row) for row in expected]


def test_calls_and_attributes_answer_as_lightgcns_do() -> None:
    _, view = pair()
    theirs = LightGCN(NODES, embedding_dim=DIM, num_layers=2)
    edges, sources, targets = both_ways(), torch.tensor([1, 2]), torch.arange(USERS, NODES)
    for ours, other in (
        (view.get_embedding(edges), theirs.get_embedding(edges)),
        (view(edges), theirs(edges)),
        (view(edges, edges[:, :3]), theirs(edges, edges[:, :3])),
        (view.predict_link(edges, prob=True), theirs.predict_link(edges, prob=True)),
        (view.recommend(edges), theirs.recommend(edges)),
        (
            view.recommend(edges, src_index=sources, dst_index=targets, k=4),
            theirs.recommend(edges, src_index=sources, dst_index=targets, k=4),
        ),
    ):
        assert ours.shape == other.shape
    for name in ("num_nodes", "embedding_dim", "num_layers"):
        assert getattr(view, name) == getattr(theirs, name)


def test_a_view_shares_parameters_both_ways() -> None:
    model, _ = pair()
    view = model.as_lightgcn()
    assert {id(p) for p in view.parameters()} == {id(p) for p in model.parameters()}
    back = view.as_bm3(one_way(seed=1))
    for trained in (lambda: model.loss(*random_pairs()), lambda: view.bootstrap_loss(both_ways(), one_way())):
        before = [x.clone() for x in model.embed()]
        optimizer = build_optimizer(view, lr=0.1)
        trained().total.backward()
        optimizer.step()
        assert all((now != then).any() for now, then in zip(model.embed(), before, strict=True))
        torch.testing.assert_close(view.get_embedding(one_way()), torch.cat(model.embed()))
        torch.testing.assert_close(view.get_embedding(one_way(seed=1)), torch.cat(back.embed()))
    assert not torch.equal(back.embed()[0], model.embed()[0])


def test_training_is_that_of_bm3_with_deferred_features() -> None:
    model, view = pair()
    graph = both_ways()
    optimizers = build_optimizer(model, lr=0.05), build_optimizer(view, lr=0.05)
    for step in range(5):
        torch.manual_seed(step)
        model.loss(*random_pairs()[:, step : step + 9]).total.backward()
        torch.manual_seed(step)
        view.bootstrap_loss(graph, one_way()[:, step : step + 9]).total.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert model.state_dict().keys() == view.bm3.state_dict().keys()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, view.bm3.state_dict()[name], msg=name)


def test_the_encoder_sees_the_graph_of_the_call() -> None:
    class OneLayer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = LGConv()

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            mean: Tensor = (x + self.conv(x, edge_index)) / 2
            return mean

    model, _ = pair(num_layers=1)
    view = BM3LightGCN(USERS, ITEMS, DIM, modalities={"image": torch.randn(ITEMS, 5)}, encoder=OneLayer()).double()
    view.bm3.load_state_dict(model.state_dict())
    for seed in (0, 1):
        torch.testing.assert_close(view.get_embedding(both_ways(seed)), dense_embedding(model, one_way(seed)))
    assert view.bm3.get_buffer("edge_index").numel() == 0


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The interactions of every graph that is normalised."""
    calls: list[Tensor] = []

    def build(edges: Tensor, num_users: int, num_items: int) -> Graph:
        calls.append(edges)
        return build_graph(edges, num_users, num_items)

    monkeypatch.setattr(lightgcn, "build_graph", build)
    return calls


def changed(form: str, graph: Any) -> None:
    """Join user 0 to item 0 in place of what the first entry joins."""
    if form == "edge_index":
        graph = graph.as_tensor()
    if form == "sparse_tensor":
        graph.storage.row()[0], graph.storage.col()[0] = 0, USERS
    elif form == "csr":
        graph.col_indices()[0] = USERS
    else:
        ids = graph._indices() if form == "coo" else graph
        ids[0, 0], ids[1, 0] = 0, USERS


@pytest.mark.parametrize("form", ["tensor", "edge_index", "csr", "coo", "sparse_tensor"])
def test_a_graph_is_normalised_once_until_it_is_changed(form: str, built: list[Tensor]) -> None:
    model, view = pair()
    built.clear()
    graph = FORMS[form](one_way())
    before = view.get_embedding(graph)
    view.bootstrap_loss(graph, one_way())
    view.recommend(graph)
    assert len(built) == 1
    changed(form, graph)
    after = view.get_embedding(graph)
    assert len(built) == 2
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, dense_embedding(model, built[1] + torch.tensor([[0], [USERS]])))


def test_two_graphs_are_remembered_and_forgotten_with_their_tensors(built: list[Tensor]) -> None:
    _, view = pair()
    built.clear()
    graphs = [both_ways(0), both_ways(1)]
    for _ in range(2):
        embeddings = [view.get_embedding(graph) for graph in graphs]
    assert not torch.equal(*embeddings)
    assert len(built) == len(view._graphs) == 2
    for seed in range(20):
        torch.testing.assert_close(view.get_embedding(both_ways(seed)), dense_embedding(view.bm3, one_way(seed)))
    del graphs[0]
    gc.collect()
    assert len(view._graphs) == 1


def test_a_tensor_whose_changes_are_not_counted_is_not_remembered(built: list[Tensor]) -> None:
    _, view = pair()
    with torch.inference_mode():
        graph = both_ways(0)
        view.get_embedding(graph)
        graph.copy_(both_ways(1))
        torch.testing.assert_close(view.get_embedding(graph), dense_embedding(view.bm3, one_way(1)))


def test_copies_and_pickles_stand_alone() -> None:
    _, view = pair()
    graph = both_ways()
    expected = view.get_embedding(graph)
    for other in (copy.deepcopy(view), pickle.loads(pickle.dumps(view))):
        torch.testing.assert_close(other.get_embedding(graph), expected)
        with torch.no_grad():
            other.bm3.user_embedding.zero_()
    torch.testing.assert_close(view.get_embedding(graph), expected)


def test_state_and_dtype_move() -> None:
    _, view = pair()
    graph = both_ways()
    other = BM3LightGCN(USERS, ITEMS, DIM, num_layers=2, modalities={"image": torch.randn(ITEMS, 5)})
    assert other.get_embedding(graph).dtype == torch.float32
    other.to("cpu", torch.float64).load_state_dict(view.state_dict())
    torch.testing.assert_close(other.get_embedding(graph), view.get_embedding(graph))


def test_the_graph_follows_the_parameters_to_their_device(built: list[Tensor]) -> None:
    """On the meta device nothing is computed, so only that the graph is made anew there can be seen."""
    _, view = pair()
    built.clear()
    graph = both_ways()
    assert view._graph(graph).by_user.indptr.device.type == "cpu"
    assert view.to("meta")._graph(graph).by_user.indptr.device.type == "meta"
    assert len(built) == 2


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (torch.tensor([[0], [1]]), "edge_index: column 0 joins 0 and 1, expected a user from 0 to 10 and an item"),
        (torch.tensor([[0, 11], [11, 12]]), "edge_index: column 1 joins 11 and 12, expected a user"),
        (torch.tensor([[0], [18]]), "column 0 joins 0 and 18, .* an item from 11 to 17"),
        (torch.tensor([[-1], [12]]), "column 0 joins -1 and 12"),
        (torch.zeros(2, 3), r"edge_index: got torch.float32 \[2, 3\], expected integer node ids \[2, E\]"),
        (torch.zeros(3, 2, dtype=torch.long), r"got torch.int64 \[3, 2\]"),
        (torch.eye(USERS, ITEMS).to_sparse(), r"edge_index: got a matrix \[11, 7\], expected \[18, 18\]"),
        ([[0], [11]], "edge_index: got list, expected a tensor"),
    ],
)
def test_wrong_graphs_are_refused(graph: Any, message: str) -> None:
    _, view = pair()
    with pytest.raises(DataError, match=message):
        view.get_embedding(graph)


def test_wrong_batches_and_options_are_refused() -> None:
    _, view = pair()
    with pytest.raises(DataError, match="pos_edge_label_index: column 0 joins 2 and 3, expected a user"):
        view.bootstrap_loss(both_ways(), torch.tensor([[2], [3]]))
    with pytest.raises(ConfigError, match="dropout: got 1"):
        BM3LightGCN(USERS, ITEMS, dropout=1.0)


def test_a_graph_without_interactions_and_an_empty_batch_of_lists() -> None:
    model, view = pair()
    nothing = torch.empty(2, 0, dtype=torch.long)
    torch.testing.assert_close(view.get_embedding(nothing), dense_embedding(model, nothing))
    assert view(nothing).shape == (0,)
    assert view.recommend(both_ways(), src_index=torch.empty(0, dtype=torch.long), k=2).shape == (0, 2)
