from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, TrainConfig, evaluate, fit, load_dataset
from bm3_pyg.data import edges_of, modalities
from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.eval.cold import ColdItems
from bm3_pyg.models import Popularity
from bm3_pyg.serving import recommend_new
from bm3_pyg.serving.new_users import embed_new_users


def among(data: HeteroData, users: Tensor) -> HeteroData:
    """The interactions of the users for whom ``users`` [U] is true."""
    part = HeteroData()
    part["user"].num_nodes, part["item"].num_nodes = data["user"].num_nodes, data["item"].num_nodes
    for name, values in modalities(data).items():
        part["item"][name] = values
    for split, name in (("train", "edge_index"), ("val", "val_edge_index"), ("test", "test_edge_index")):
        edges = edges_of(data, split)
        part["user", "rates", "item"][name] = edges[:, users[edges[0]]]
    return part


def test_users_unseen_in_training_are_served_almost_as_well() -> None:
    """A tenth of the users is left out of training; then their training items are all that is known of them."""
    data = load_dataset("demo")
    new = torch.rand(data["user"].num_nodes, generator=torch.Generator().manual_seed(0)) < 0.1
    known, unseen = among(data, ~new), among(data, new)
    recall = {}
    for name, train in (("without", known), ("with", data)):
        torch.manual_seed(0)
        model = BM3.from_data(train, freeze_features=True)
        fit(model, train, TrainConfig(max_epochs=40, patience=100, eval_every=40))
        recall[name] = evaluate(model, unseen, k=(20,))["recall@20"]
        if name == "without":
            users, items = embed_new_users(model, histories(data))
            recall["new"] = evaluate(ColdItems(users, items), unseen, k=(20,))["recall@20"]
    popularity = evaluate(Popularity.from_data(known), unseen, k=(20,))["recall@20"]
    assert recall["new"] > 1.5 * popularity
    assert recall["new"] > 0.85 * recall["with"]
    assert recall["without"] < popularity


def histories(data: HeteroData) -> list[list[int]]:
    lists: list[list[int]] = [[] for _ in range(data["user"].num_nodes)]
    for user, item in edges_of(data, "train").T.tolist():
        lists[user].append(item)
    return lists


@pytest.fixture
def model() -> BM3:
    """Item 4 has no interactions; item 0 is the most popular, then 2."""
    torch.manual_seed(1)
    return BM3(4, 5, torch.tensor([[0, 1, 2, 0, 1, 3], [0, 0, 0, 2, 2, 3]]))


def test_no_user_vector_has_a_lower_loss(model: BM3) -> None:
    history = [0, 2, 3]
    users, items = embed_new_users(model, [history])
    targets = model.forward()[1].detach()[history]

    def loss(user: Tensor) -> float:
        return float(1 - cosine_similarity(user[None], targets).mean())

    lowest = loss(users[0])
    torch.testing.assert_close(items, model.embed()[1])
    for step in 1e-3 * torch.randn(200, users.size(1)) * users.norm():
        assert loss(users[0] + step) > lowest - 1e-6
    assert all(loss(other) > lowest for other in torch.randn(200, users.size(1)))


def test_equal_to_a_loop(model: BM3) -> None:
    given = [[0, 2, 2], [3, 4], [1]]
    hidden = model.forward()[1].detach().double()
    own = model.embed()[0].detach().double()
    users, _ = embed_new_users(model, given)
    for row, kept in zip(users.double(), ([0, 2], [3], []), strict=True):
        total = sum((hidden[i] / hidden[i].norm() for i in kept), torch.zeros(64, dtype=torch.double))
        length = float(own.norm(dim=1).mean()) if kept else 0.0
        torch.testing.assert_close(row, length * total / total.norm().clamp(min=1e-12), rtol=1e-5, atol=1e-7)


def test_lists_leave_out_the_history(model: BM3) -> None:
    given = [[0, 2, 2], [3, 4], [1], []]
    ids, scores = recommend_new(model, given, k=5)
    users, items = embed_new_users(model, given)
    for row in (0, 1):
        expected = sorted({0, 1, 2, 3, 4} - set(given[row]), key=lambda i: -float(users[row] @ items[i]))
        assert ids[row].tolist() == expected + [-1] * (5 - len(expected))
    assert ids[2].tolist() == [0, 2, 3, 4, -1]
    assert ids[3].tolist() == [0, 2, 3, 1, 4]
    assert scores[3].tolist() == [3, 2, 1, 0, 0]
    assert recommend_new(model, given, k=2, candidates=[1, 3])[0][3].tolist() == [3, 1]
    assert recommend_new(model, [], k=2)[0].shape == (0, 2)


def test_wrong_input_is_refused(model: BM3) -> None:
    with pytest.raises(DataError, match="item: got id 5, expected one from 0 to 4"):
        recommend_new(model, [[0], [5]])
    with pytest.raises(ConfigError, match="k: got 0"):
        recommend_new(model, [[0]], k=0)
    with pytest.raises(ConfigError, match="got Popularity"):
        recommend_new(Popularity(5, torch.tensor([[0], [0]])), [[0]])
