from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, TrainConfig, evaluate, fit, load_dataset
from bm3_pyg.data import edges_of, modalities, raw_ids
from bm3_pyg.data.edges import interactions_of
from bm3_pyg.data.hetero import build, missing_of
from bm3_pyg.data.splits import cold_item_split
from bm3_pyg.errors import ConfigError
from bm3_pyg.eval import with_cold_items
from bm3_pyg.eval.cold import cold_items, is_cold_split
from bm3_pyg.eval.held_out import HeldOut
from bm3_pyg.models import Popularity
from bm3_pyg.serving import similar_items


def cold_demo() -> HeteroData:
    """The demo with a tenth of the items for validation and as many for testing alone."""
    data = load_dataset("demo")
    rows = interactions_of(data)
    return build(
        "cold demo",
        replace(rows, split=cold_item_split(rows.items, seed=0)),
        user_ids=raw_ids(data, "user"),
        item_ids=raw_ids(data, "item"),
        features={name: (values.numpy(), missing_of(data, name)) for name, values in modalities(data).items()},
        files={},
        notes=[],
    )


def test_cold_items_are_ranked_by_their_features() -> None:
    data = cold_demo()
    torch.manual_seed(0)
    model = BM3.from_data(data, freeze_features=True)
    result = fit(model, data, TrainConfig(max_epochs=60, patience=100, eval_every=20))
    cold = edges_of(data, "test")[1].unique()
    assert is_cold_split(data)
    assert torch.equal(cold_items(data, "test"), cold)
    assert not torch.isin(edges_of(data, "train")[1], cold).any()
    placed = with_cold_items(model, data)
    recall = {
        name: evaluate(recommender, data, k=(20,), candidates=cold)["recall@20"]
        for name, recommender in (("features", placed), ("ids", model), ("popularity", Popularity.from_data(data)))
    }
    assert result.test["recall@20"] == recall["features"]  # fit ranks the cold items too where all held out are cold
    at_random = 20 / len(cold)
    assert recall["features"] > 2 * at_random
    assert recall["features"] > 2 * max(recall["ids"], recall["popularity"])
    # Popularity knows nothing of cold items; here it is told what happened in the test itself.
    oracle = Popularity(data["item"].num_nodes, edges_of(data, "test"))
    assert recall["features"] > evaluate(oracle, data, k=(20,), candidates=cold)["recall@20"]


def hand_made() -> HeteroData:
    """Items 3, 4 and 5 are cold; 4 has no image of its own, 5 no feature at all."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 6
    data["item"].image, data["item"].text = torch.randn(6, 5), torch.randn(6, 2)
    data["item"].image_missing = torch.tensor([True, False, False, False, True, True])
    data["item"].text_missing = torch.tensor([False, False, False, False, False, True])
    data["user", "rates", "item"].edge_index = torch.tensor([[0, 1, 2, 2], [0, 1, 2, 0]])
    return data


@pytest.mark.parametrize("options", [{}, {"freeze_features": True, "num_layers": 2}])
def test_rows_are_the_rescaled_mean_of_the_present_features(options: dict[str, int]) -> None:
    data = hand_made()
    model = BM3.from_data(data, **options)
    users, items = with_cold_items(model, data).embed()
    own_users, own_items = model.embed()
    torch.testing.assert_close(users, own_users)
    torch.testing.assert_close(items[:3], own_items[:3])
    f = model.objective.predictor
    rows = torch.arange(6)
    of = {name: f(table.project(rows, model.projections[name])) for name, table in model.features.items()}
    expected = {3: (of["image"] + of["text"])[3] / 2, 4: of["text"][4], 5: (of["image"] + of["text"])[5] / 2}
    length = sum(float(row.norm()) for row in own_items[:3].detach()) / 3
    for item, row in expected.items():
        torch.testing.assert_close(items[item], row / row.norm() * length)
    scores = with_cold_items(model, data).scorer()(torch.tensor([2, 0]))
    torch.testing.assert_close(scores, users[[2, 0]] @ items.T)
    assert similar_items(with_cold_items(model, data), [5], 5)[0].min() >= 0


def test_models_that_cannot_place_items_are_refused() -> None:
    data = hand_made()
    with pytest.raises(ConfigError, match="got Popularity"):
        with_cold_items(Popularity.from_data(data), data)
    with pytest.raises(ConfigError, match="no modalities"):
        with_cold_items(BM3.from_data(data, modalities=[]), data)


def test_which_items_and_splits_are_cold() -> None:
    data = hand_made()
    rates = data["user", "rates", "item"]
    assert not is_cold_split(data)  # nothing is held out
    rates.val_edge_index = torch.tensor([[0, 1], [4, 3]])
    rates.test_edge_index = torch.tensor([[0, 1, 2], [5, 5, 3]])
    assert is_cold_split(data)
    assert cold_items(data, "test").tolist() == [3, 5]
    rates.test_edge_index = torch.tensor([[0, 1], [5, 2]])
    assert not is_cold_split(data)
    assert cold_items(data, "test").tolist() == [5]


def test_models_without_features_keep_their_own_scores() -> None:
    data = hand_made()
    data["user", "rates", "item"].val_edge_index = torch.tensor([[0, 1], [4, 3]])
    users = torch.arange(3)
    for model in (Popularity.from_data(data), BM3.from_data(data, modalities=[])):
        torch.testing.assert_close(HeldOut(model, data).scorer()(users), model.scorer()(users))
    model = BM3.from_data(data)
    torch.testing.assert_close(HeldOut(model, data).scorer()(users), with_cold_items(model, data).scorer()(users))
    barred = HeldOut(model, data).tasks["val"].barred
    assert barred is not None
    assert barred.tolist() == [True, True, True, False, False, True]
    data["user", "rates", "item"].val_edge_index = torch.tensor([[0, 1], [4, 2]])
    torch.testing.assert_close(HeldOut(model, data).scorer()(users), model.scorer()(users))
    assert HeldOut(model, data).tasks["val"].barred is None
