from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg.errors import ConfigError
from bm3_pyg.models.features import FrozenFeatures, chosen_features


@pytest.fixture
def data() -> HeteroData:
    data = HeteroData()
    data["item"].num_nodes = 5
    data["item"].image, data["item"].text = torch.randn(5, 3), torch.randn(5, 2)
    return data


def test_all_features_some_or_ones_own(data: HeteroData) -> None:
    assert list(chosen_features(data, None)) == ["image", "text"]
    assert list(chosen_features(data, ["text"])) == ["text"]
    assert list(chosen_features(data, [])) == []
    own = {"sound": torch.randn(5, 1)}
    assert chosen_features(data, own) == own


@pytest.mark.parametrize(
    ("chosen", "message"),
    [("image", "expected a list of names"), ([1], "expected a list"), (["audio"], "the dataset has image, text")],
)
def test_wrong_choices_are_named(data: HeteroData, chosen: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chosen_features(data, chosen)


def test_projections_of_repeated_items_in_any_order() -> None:
    image, text = torch.randn(5, 3), torch.randn(5, 2)
    features = FrozenFeatures({"image": image, "text": text}, 5, 4)
    items = torch.tensor([4, 0, 4, 2])
    projected = features(items)
    for name, values in (("image", image), ("text", text)):
        expected = values.half().float()[items] @ features.projections[name].weight.T
        torch.testing.assert_close(projected[name], expected)
    assert all(parameter.shape[0] == 4 for parameter in features.parameters())
    assert set(features.state_dict()) == {"projections.image.weight", "projections.text.weight"}


def test_features_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="modalities: got none"):
        FrozenFeatures({}, 5, 4)
    with pytest.raises(ConfigError, match=r"modality image: got shape \[4, 3\], expected \[5, d\]"):
        FrozenFeatures({"image": torch.randn(4, 3)}, 5, 4)
