"""Features made useless."""

from __future__ import annotations

import pytest
import torch

from bm3_pyg import load_dataset
from bm3_pyg.data import fingerprint, modalities
from bm3_pyg.data.corrupt import corrupt_features
from bm3_pyg.errors import ConfigError


def test_shuffled_rows_are_the_same_rows_elsewhere() -> None:
    data = load_dataset("demo")
    before = fingerprint(data)
    changed = corrupt_features(data, "shuffled", seed=3)
    assert fingerprint(data) == before
    orders = []
    for name, values in modalities(data).items():
        # Each changed row is one of the given ones, and the same item's in every modality.
        distances = torch.cdist(changed["item"][name].double(), values.double())
        orders.append(distances.argmin(dim=1))
        assert distances.min(dim=1).values.max() < 1e-4
        missing = data["item"][f"{name}_missing"]
        assert torch.equal(changed["item"][f"{name}_missing"].sum(), missing.sum())
    rows = ~(changed["item"].image_missing | changed["item"].text_missing)
    assert torch.equal(orders[0][rows], orders[1][rows])
    assert (orders[0] == torch.arange(1000)).float().mean() < 0.02
    assert changed["user", "rates", "item"].edge_index is data["user", "rates", "item"].edge_index
    assert fingerprint(corrupt_features(data, "shuffled", seed=3)) == fingerprint(changed)
    assert fingerprint(corrupt_features(data, "shuffled", seed=4)) != fingerprint(changed)


def test_random_features_have_the_columns_mean_and_spread() -> None:
    data = load_dataset("demo")
    changed = corrupt_features(data, "random")
    for name, values in modalities(data).items():
        found = changed["item"][name]
        error = (found.mean(dim=0) - values.mean(dim=0)) / (values.std(dim=0) / 1000**0.5)
        assert error.abs().mean() == pytest.approx((2 / torch.pi) ** 0.5, abs=0.3)  # mean of |N(0, 1)|
        assert (found.std(dim=0) / values.std(dim=0)).mean() == pytest.approx(1, abs=0.02)
        both = torch.corrcoef(torch.stack([found[:, 0], values[:, 0]]))
        assert abs(float(both[0, 1])) < 0.15


def test_an_unknown_corruption() -> None:
    with pytest.raises(ConfigError, match="did you mean 'shuffled'"):
        corrupt_features(load_dataset("demo"), "shuffle")


def test_a_corrupted_dataset_is_loaded_again_from_its_source() -> None:
    data = load_dataset("demo", seed=2, corrupt="shuffled")
    assert data.source == {"source": "demo", "seed": 2, "corrupt": "shuffled"}
    again = load_dataset(**data.source)
    assert fingerprint(again) == fingerprint(data)
    assert fingerprint(corrupt_features(load_dataset("demo", seed=2), "shuffled", seed=2)) == fingerprint(data)
    assert "on purpose" in data.notes[-1]
