from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from torch_geometric.data import HeteroData

from bm3_pyg.data import PLANTED, describe, fingerprint, load_dataset
from bm3_pyg.data.planted import SIZES, make_planted

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def demo() -> HeteroData:
    return make_planted("demo", 0)


def check(data: HeteroData, users: int, items: int, interactions: int, image: int, text: int) -> None:
    told = describe(data)
    assert (told["users"], told["items"], told["interactions"]) == (users, items, interactions)
    assert {name: one["dim"] for name, one in told["modalities"].items()} == {"image": image, "text": text}
    assert all(one["missing"] == round(0.05 * items) for one in told["modalities"].values())
    assert told["users_without_training"] == 0
    rates = data["user", "rates", "item"]
    both = np.concatenate([rates[f"{prefix}edge_index"].numpy() for prefix in ("", "val_", "test_")], axis=1)
    assert len(np.unique(both[0] * items + both[1])) == interactions
    assert np.bincount(both[0], minlength=users).min() >= 5
    nowhere = items - np.count_nonzero(np.bincount(both[1], minlength=items))
    assert round(0.01 * items) <= nowhere <= told["cold_items"] <= round(0.02 * items)
    popularity = np.sort(np.bincount(both[1], minlength=items))[::-1]
    assert popularity[: items // 5].sum() > 0.4 * interactions
    activity = np.bincount(both[0])
    assert activity.max() > 8 * np.median(activity)


def recall(score: Floats, data: HeteroData, k: int = 20) -> float:
    """Mean Recall@k on test, training items hidden."""
    rates = data["user", "rates", "item"]
    score = score.copy()
    score[tuple(rates.edge_index.numpy())] = -np.inf
    hits, wanted = np.zeros(len(score)), np.bincount(rates.test_edge_index[0], minlength=len(score))
    top = np.argsort(-score, axis=1, kind="stable")[:, :k]
    for user, item in rates.test_edge_index.T.tolist():
        hits[user] += item in top[user]
    return float((hits[wanted > 0] / wanted[wanted > 0]).mean())


def test_names() -> None:
    assert PLANTED == ("demo", "planted-baby", "planted-sports", "planted-electronics")
    assert {name: (size.users, size.items, size.interactions) for name, size in SIZES.items()} == {
        "demo": (2_000, 1_000, 30_000),
        "planted-baby": (19_445, 7_050, 160_792),
        "planted-sports": (35_598, 18_357, 296_337),
        "planted-electronics": (192_403, 63_001, 1_689_188),
    }


def test_demo(demo: HeteroData) -> None:
    check(demo, 2_000, 1_000, 30_000, image=128, text=32)


def test_planted_baby() -> None:
    check(make_planted("planted-baby", 0), 19_445, 7_050, 160_792, image=4096, text=384)


@pytest.mark.long
def test_planted_electronics_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset("planted-electronics")
    check(data, 192_403, 63_001, 1_689_188, image=4096, text=384)
    monkeypatch.setattr("bm3_pyg.data.load.make_planted", lambda *_: pytest.fail("made again"))
    again = load_dataset("planted-electronics")
    assert fingerprint(again) == fingerprint(data)


def test_same_seed_same_data(demo: HeteroData) -> None:
    assert fingerprint(make_planted("demo", 0)) == fingerprint(demo)
    assert fingerprint(make_planted("demo", 1)) != fingerprint(demo)


def test_latent_factors_beat_popularity_and_popularity_beats_chance(demo: HeteroData) -> None:
    train = np.zeros((2_000, 1_000))
    train[tuple(demo["user", "rates", "item"].edge_index.numpy())] = 1
    degree = np.maximum(train.sum(axis=0), 1)
    scaled = train / np.sqrt(np.maximum(train.sum(axis=1, keepdims=True), 1) * degree)
    vectors = np.linalg.eigh(scaled.T @ scaled)[1][:, -32:]
    factors = recall(scaled @ vectors @ vectors.T, demo)
    popular = recall(np.tile(degree, (2_000, 1)), demo)
    chance = recall(np.random.default_rng(0).random(train.shape), demo)
    assert factors > 2 * popular > 4 * chance


def test_features_tell_of_preferences(demo: HeteroData) -> None:
    """Ranking by likeness to a user's training items, by features alone, beats popularity too."""
    rates = demo["user", "rates", "item"]
    train = np.zeros((2_000, 1_000))
    train[tuple(rates.edge_index.numpy())] = 1
    degree = train.sum(axis=0)
    for name in ("image", "text"):
        features = demo["item"][name].numpy().astype(np.float64)
        features -= features.mean(axis=0)
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
        assert recall(train @ features @ features.T, demo) > 1.5 * recall(np.tile(degree, (2_000, 1)), demo)


def test_filled_features_are_the_mean_of_the_others(demo: HeteroData) -> None:
    values, missing = demo["item"].text.numpy(), demo["item"].text_missing.numpy()
    np.testing.assert_allclose(values[missing], np.tile(values[~missing].mean(axis=0), (50, 1)), rtol=1e-4, atol=1e-6)
