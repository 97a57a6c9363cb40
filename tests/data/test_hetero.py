from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from bm3_pyg.data import describe, edges_of, fingerprint, index_of, modalities, raw_ids, same_fingerprint
from bm3_pyg.data.hetero import build, check_features, check_modality_name, chosen_modalities
from bm3_pyg.data.splits import Interactions
from bm3_pyg.errors import ConfigError, DataError


@pytest.fixture
def data() -> HeteroData:
    """Three users, four items; user "w" and item 40 have no training interaction."""
    rows = Interactions(
        np.array([0, 0, 1, 1, 0, 2]),
        np.array([0, 1, 1, 2, 2, 0]),
        np.array([0, 0, 0, 0, 1, 2], dtype=np.int8),
        time=np.array([10, 11, 12, 13, 14, 15]),
        rating=np.array([1, 2, 3, 4, 5, 1], dtype=np.float32),
    )
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    return build(
        "toy",
        rows,
        user_ids=np.array(["u", "v", "w"]),
        item_ids=np.array([10, 20, 30, 40]),
        features={"image": (values, np.array([False, True, False, False]))},
        files={"toy.csv": "abc"},
        notes=["a note"],
    )


@pytest.fixture
def hand_made() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes = 2
    data["item"].x = torch.rand(3, 5)
    data["user", "rates", "item"].edge_index = torch.tensor([[0, 1, 1], [0, 1, 2]])
    return data


def test_layout(data: HeteroData) -> None:
    rates = data["user", "rates", "item"]
    assert data["user"].num_nodes == 3
    assert data["item"].num_nodes == 4
    assert data["user"].raw_id.tolist() == ["u", "v", "w"]
    assert rates.edge_index.tolist() == [[0, 0, 1, 1], [0, 1, 1, 2]]
    assert rates.val_edge_index.tolist() == [[0], [2]]
    assert rates.test_edge_index.tolist() == [[2], [0]]
    assert rates.time.tolist() == [10, 11, 12, 13]
    assert rates.test_rating.tolist() == [1]
    assert data["item", "rated_by", "user"].edge_index.tolist() == [[0, 1, 1, 2], [0, 0, 1, 1]]
    assert data["item"].image.dtype == torch.float32
    assert data["item"].image_missing.tolist() == [False, True, False, False]
    assert data.notes == ["a note", "toy: 1 of 3 users have no training interaction; evaluation leaves them out"]
    assert data.validate()


def test_modalities(data: HeteroData, hand_made: HeteroData) -> None:
    data["item"].price = torch.rand(4)
    data["item"].count = torch.ones(4, 2, dtype=torch.long)
    assert list(modalities(data)) == ["image"]
    assert list(modalities(hand_made)) == ["x"]


def test_describe(data: HeteroData) -> None:
    told = json.loads(json.dumps(describe(data)))
    assert told == {
        "name": "toy",
        "users": 3,
        "items": 4,
        "interactions": 6,
        "splits": {"train": 4, "val": 1, "test": 1},
        "split_users": {"train": 2, "val": 1, "test": 1},
        "split_items": {"train": 3, "val": 1, "test": 1},
        "duplicates": {"train": 0, "val": 0, "test": 0},
        "leaks": {"train-val": 0, "train-test": 0, "val-test": 0},
        "time": {"train": [10, 13], "val": [14, 14], "test": [15, 15]},
        "modalities": {"image": {"dim": 2, "missing": 1}},
        "sparsity": 0.5,
        "degrees": {
            "user": {"min": 0, "median": 2.0, "mean": 4 / 3, "max": 2},
            "item": {"min": 0, "median": 1.0, "mean": 1.0, "max": 2},
        },
        "users_without_training": 1,
        "cold_items": 1,
        "files": {"toy.csv": "abc"},
        "fingerprint": fingerprint(data),
        "notes": data.notes,
    }


def test_describe_hand_made(hand_made: HeteroData) -> None:
    told = describe(hand_made)
    assert told["name"] is None
    assert told["splits"] == {"train": 3, "val": 0, "test": 0}
    assert told["modalities"] == {"x": {"dim": 5, "missing": 0}}
    assert told["time"] == {}


def test_describe_counts_duplicates_and_leaks_as_loops_do() -> None:
    rng = np.random.default_rng(0)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 12, 9
    edges = {split: rng.integers((12, 9), size=(n, 2)) for split, n in (("train", 60), ("val", 30), ("test", 0))}
    for split, pairs in edges.items():
        name = "edge_index" if split == "train" else f"{split}_edge_index"
        data["user", "rates", "item"][name] = torch.from_numpy(pairs.T.copy())
    told = describe(data)
    sets = {split: {tuple(pair) for pair in pairs.tolist()} for split, pairs in edges.items()}
    assert told["duplicates"] == {split: len(pairs) - len(sets[split]) for split, pairs in edges.items()}
    assert told["leaks"] == {
        "train-val": len(sets["train"] & sets["val"]),
        "train-test": len(sets["train"] & sets["test"]),
        "val-test": len(sets["val"] & sets["test"]),
    }
    assert told["duplicates"]["train"]
    assert told["leaks"]["train-val"]
    assert told["split_users"] == {split: len({user for user, _ in sets[split]}) for split in sets}
    assert told["split_items"] == {split: len({item for _, item in sets[split]}) for split in sets}


def test_fingerprint_follows_the_content(data: HeteroData) -> None:
    before = fingerprint(data)
    data.name = "another name"
    assert fingerprint(data) == before
    changes = []
    data["item"].image[3, 1] += 1
    changes.append(fingerprint(data))
    data["user", "rates", "item"].test_edge_index[1, 0] = 3
    changes.append(fingerprint(data))
    data["user"].num_nodes = 4
    changes.append(fingerprint(data))
    data["item"].text = torch.zeros(4, 1, dtype=torch.bfloat16)
    changes.append(fingerprint(data))
    assert len({before, *changes}) == 5


def test_own_ids_belong_to_the_fingerprint(data: HeteroData, hand_made: HeteroData) -> None:
    content, ids = fingerprint(data).split("-")
    assert len(content) == 64
    data["item"].raw_id = np.array(["10", "20", "30", "40"])
    assert fingerprint(data) == f"{content}-{ids}"
    changes = [
        ("item", np.array([20, 30, 40, 10])),
        ("item", np.array([102, 0, 30, 40])),
        ("user", np.array(["v", "u", "w"])),
    ]
    for kind, own in changes:
        before = data[kind].raw_id
        data[kind].raw_id = own
        now = fingerprint(data)
        data[kind].raw_id = before
        assert now.split("-")[0] == content
        assert not same_fingerprint(now, f"{content}-{ids}")
        assert same_fingerprint(now, content)
    assert not same_fingerprint("0" * 64, f"{content}-{ids}")
    before = fingerprint(hand_made)
    hand_made["item"].raw_id = np.arange(3)
    assert fingerprint(hand_made) == before


def test_fingerprint_of_edge_index_is_that_of_the_plain_tensor(hand_made: HeteroData) -> None:
    before = fingerprint(hand_made)
    rates = hand_made["user", "rates", "item"]
    rates.edge_index = EdgeIndex(rates.edge_index, sparse_size=(2, 3))
    assert fingerprint(hand_made) == before


def test_index_of(data: HeteroData, hand_made: HeteroData) -> None:
    assert index_of(data, "user", ["w", "u", "w"]).tolist() == [2, 0, 2]
    assert index_of(data, "item", [30, "10"]).tolist() == [2, 0]
    assert index_of(data, "item", np.array([40])).tolist() == [3]
    assert index_of(data, "item", torch.tensor([20])).tolist() == [1]
    assert index_of(hand_made, "item", ["2", 0]).tolist() == [2, 0]
    assert index_of(data, "user", []).shape == (0,)


def test_index_of_names_unknown_ids(data: HeteroData) -> None:
    with pytest.raises(
        DataError, match=r"^toy: 4 of 5 user ids are unknown \('a', 'b', 'c', \.\.\.\), expected .* 'u'$"
    ):
        index_of(data, "user", ["a", "u", "b", "c", "d"])


def test_raw_ids_fall_back_to_indices(hand_made: HeteroData) -> None:
    assert raw_ids(hand_made, "user").tolist() == [0, 1]


def test_no_training_interactions() -> None:
    rows = Interactions(np.array([0]), np.array([0]), np.array([1], dtype=np.int8))
    with pytest.raises(DataError, match="none of the 1 interactions is for training"):
        build("x", rows, user_ids=np.arange(1), item_ids=np.arange(1), features={}, files={}, notes=[])


def test_what_hand_made_data_must_have() -> None:
    data = HeteroData()
    with pytest.raises(DataError, match="num_nodes is not set"):
        modalities(data)
    with pytest.raises(DataError, match="has no edge_index"):
        edges_of(data, "train")


@pytest.mark.parametrize(
    "name",
    [
        "user",
        "item",
        "num_nodes",
        "raw_id",
        "n_id",
        "image_missing",
        "keys",
        "items",
        "training",
        "class",
        "two words",
        "1st",
        "",
        "_x",
    ],
)
def test_names_that_cannot_be_modalities(name: str) -> None:
    with pytest.raises(DataError, match="cannot name a modality"):
        check_modality_name(name)


@pytest.mark.parametrize("name", ["image", "text", "x", "audio_2", "v"])
def test_modality_names(name: str) -> None:
    check_modality_name(name)


def test_all_modalities_some_or_ones_own(data: HeteroData) -> None:
    data["item"].text = torch.randn(4, 3)
    assert list(chosen_modalities(data, None)) == ["image", "text"]
    assert list(chosen_modalities(data, ["text"])) == ["text"]
    assert list(chosen_modalities(data, [])) == []
    own = {"sound": torch.randn(4, 1)}
    assert chosen_modalities(data, own) == own


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("image", "got 'image', expected a list of names"),
        ([1], r"got \[1\], expected a list"),
        (["audio"], "got 'audio', the dataset has image"),
    ],
)
def test_wrong_choices_are_named(data: HeteroData, chosen: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^modalities: {message}"):
        chosen_modalities(data, chosen)


def test_features_have_a_row_for_each_item_and_a_fitting_name() -> None:
    check_features({"image": torch.randn(5, 3), "text": torch.randn(5, 0)}, 5)
    for shape in ([4, 3], [5], [5, 3, 1]):
        with pytest.raises(ConfigError, match=r"^modality image: got shape \[.*\], expected \[5, d\]"):
            check_features({"image": torch.randn(shape)}, 5)
    with pytest.raises(ConfigError, match=r"^modality image: got a ndarray, expected a tensor"):
        check_features({"image": np.zeros((5, 3))}, 5)  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"^modalities: got a list"):
        check_features(["image"], 5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="cannot name a modality"):
        check_features({"item": torch.randn(5, 3)}, 5)
