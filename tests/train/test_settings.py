from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg.errors import ConfigError
from bm3_pyg.train.settings import build_model, resolve_device, split_settings


def test_settings_go_to_training_and_model() -> None:
    given = ["num_layers=2", "lr=1e-2", "freeze_features=true", "modalities=[image]", "mask=seen", "modalities=[]"]
    training, options = split_settings(given)
    assert training == {"lr": 0.01, "mask": "seen"}
    assert options == {"num_layers": 2, "freeze_features": True, "modalities": []}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("num_layer=2", "unknown key 'num_layer', did you mean 'num_layers'"),
        ("learning_rates=2", "unknown key 'learning_rates', expected one of align_weight"),
        ("num_layers", "got 'num_layers', expected KEY=VALUE"),
        ("encoder=x", "unknown key 'encoder'"),
        ("dropout=[", "dropout: got '\\['"),
    ],
)
def test_wrong_settings_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_settings([setting])


def test_the_seed_decides_the_weights(small_data: HeteroData) -> None:
    one, two, other = (build_model(small_data, {}, seed, "cpu").user_embedding for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="--device: got 'gpu'"):
        resolve_device("gpu")
