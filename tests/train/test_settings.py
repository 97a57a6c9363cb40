from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg.errors import ConfigError
from bm3_pyg.train.settings import build_model, resolve_device, split_settings, with_preset


def test_settings_go_to_training_and_model() -> None:
    given = ["num_layers=2", "lr=1e-2", "freeze_features=true", "modalities=[]", "mask=seen", "batch_size=010"]
    training, options = split_settings(given)
    assert training == {"lr": 0.01, "mask": "seen", "batch_size": 10}
    assert options == {"num_layers": 2, "freeze_features": True, "modalities": []}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("num_layer=2", "unknown key 'num_layer', did you mean 'num_layers'"),
        ("learning_rates=2", "unknown key 'learning_rates', expected one of align_weight"),
        ("num_layers", "got 'num_layers', expected KEY=VALUE"),
        ("encoder=x", "unknown key 'encoder'"),
    ],
)
def test_wrong_settings_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_settings([setting])


@pytest.mark.parametrize("text", ["[", "2020-13-45", "20:48", "{image: 3}", "[[1]]", "two"])
def test_what_is_no_value_stays_text_for_the_option_to_refuse(text: str) -> None:
    assert split_settings([f"batch_size={text}"]) == ({"batch_size": text}, {})


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="got lr twice"):
        split_settings(["lr=1", "lr=2"])


@pytest.mark.parametrize(
    ("model", "setting", "message"),
    [
        ("lightgcn", "reg_wight=1", "--set: unknown key 'reg_wight', did you mean 'reg_weight'"),
        ("lightgcn", "modalities=[]", "--set: unknown key 'modalities', lightgcn uses no features"),
        ("bprmf", "dropout=0.5", "--set: unknown key 'dropout', expected one of batch_size, .* embedding_dim"),
        ("itemknn", "modalities=[]", "--set: unknown key 'modalities', expected one of batch_size, by, "),
        ("lightgnc", "lr=1", "model: got 'lightgnc', did you mean 'lightgcn'"),
    ],
)
def test_each_model_has_its_own_keys(model: str, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_settings([setting], model)


def test_settings_of_another_model() -> None:
    assert split_settings(["modalities=[image]", "lr=1", "pruning=0.9"], "freedom") == (
        {"lr": 1},
        {"modalities": ["image"], "pruning": 0.9},
    )


def test_an_unknown_option_is_refused_before_the_model_is_built(small_data: HeteroData) -> None:
    with pytest.raises(ConfigError, match="unknown key 'num_layer', did you mean 'num_layers'"):
        build_model(small_data, {"num_layer": 2}, 0, "cpu")
    with pytest.raises(ConfigError, match="unknown key 'x', popularity has no options"):
        build_model(small_data, {"x": 2}, 0, "cpu", "popularity")


def test_the_seed_decides_the_weights(small_data: HeteroData) -> None:
    one, two, other = (build_model(small_data, {}, seed, "cpu").user_embedding for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "meta", "xpu"):
        with pytest.raises(ConfigError, match=f"--device: got '{name}'"):
            resolve_device(name)


def test_a_preset_gives_way_to_settings() -> None:
    assert split_settings(with_preset("plus", [])) == ({}, {"num_layers": 2, "align_weight": 0, "mask_weight": 2.0})
    assert split_settings(with_preset("plus", ["num_layers=1", "lr=0.01"])) == (
        {"lr": 0.01},
        {"num_layers": 1, "align_weight": 0, "mask_weight": 2.0},
    )
