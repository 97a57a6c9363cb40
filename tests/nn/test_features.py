from __future__ import annotations

import pytest
import torch

from bm3_pyg.errors import ConfigError
from bm3_pyg.nn.features import FrozenFeatures


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
