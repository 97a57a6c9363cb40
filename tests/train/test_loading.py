from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, TrainConfig, evaluate, fit, load_dataset, load_run
from bm3_pyg.errors import RunError


def trained(data: HeteroData, out: Path, **options: Any) -> BM3:
    torch.manual_seed(0)
    model = BM3.from_data(data, **options)
    fit(model, data, TrainConfig(max_epochs=1), out, verbose=False)
    (out / "seal.json").unlink()  # as in runs older than it, whose files may have been changed by hand
    return model


def test_a_run_is_read_back_with_its_dataset(tmp_path: Path) -> None:
    data = load_dataset("demo", seed=3)
    model = trained(data, tmp_path / "run", num_layers=2, modalities=["text"])
    loaded, loaded_data = load_run(tmp_path / "run")
    assert loaded.options == model.options
    assert evaluate(loaded, loaded_data) == evaluate(model, data)


def test_frozen_features_come_from_the_dataset(small_data: HeteroData, tmp_path: Path) -> None:
    model = trained(small_data, tmp_path / "run", freeze_features=True)
    loaded, _ = load_run(tmp_path / "run", data=small_data)
    assert torch.equal(loaded.features["image"].weight, model.features["image"].weight)


def test_data_made_by_hand_must_be_given(small_data: HeteroData, tmp_path: Path) -> None:
    trained(small_data, tmp_path / "run")
    with pytest.raises(RunError, match="pass it as data"):
        load_run(tmp_path / "run")


def test_a_run_of_another_dataset_is_refused(small_data: HeteroData, tmp_path: Path) -> None:
    trained(small_data, tmp_path / "run")
    small_data["item"].image = small_data["item"].image + 1
    with pytest.raises(RunError, match="trained on another dataset"):
        load_run(tmp_path / "run", data=small_data)


def test_an_encoder_must_be_given_again(small_data: HeteroData, tmp_path: Path) -> None:
    class Same(nn.Module):
        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return x

    model = trained(small_data, tmp_path / "run", encoder=Same())
    with pytest.raises(RunError, match="encoder Same"):
        load_run(tmp_path / "run", data=small_data)
    loaded, _ = load_run(tmp_path / "run", data=small_data, encoder=Same())
    assert evaluate(loaded, small_data) == evaluate(model, small_data)


@pytest.mark.parametrize("content", ["- 1\n", "schema: 99\n", "a: [\n"])
def test_a_damaged_configuration_is_named(small_data: HeteroData, tmp_path: Path, content: str) -> None:
    trained(small_data, tmp_path / "run")
    (tmp_path / "run/config.yaml").write_text(content)
    with pytest.raises(RunError, match=r"config\.yaml: "):
        load_run(tmp_path / "run", data=small_data)


@pytest.mark.parametrize(("section", "key"), [("train", "lr"), ("dataset", "source"), ("model", "options")])
def test_a_configuration_with_a_key_missing_or_too_many(
    small_data: HeteroData, tmp_path: Path, section: str, key: str
) -> None:
    trained(small_data, tmp_path / "run")
    path = tmp_path / "run/config.yaml"
    config = yaml.safe_load(path.read_text())
    for change in ({**config[section], "extra": 1}, {k: v for k, v in config[section].items() if k != key}):
        path.write_text(yaml.safe_dump({**config, section: change}))
        with pytest.raises(RunError, match=rf"config\.yaml: {section}: (unknown key 'extra'|no key '{key}'), "):
            load_run(tmp_path / "run", data=small_data)


def test_weights_that_do_not_fit_the_configuration(small_data: HeteroData, tmp_path: Path) -> None:
    trained(small_data, tmp_path / "run")
    path = tmp_path / "run/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["model"]["options"]["embedding_dim"] = 32
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(RunError, match=r"best\.pt: does not fit config\.yaml"):
        load_run(tmp_path / "run", data=small_data)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "bm33"}, "model: got 'bm33', did you mean 'bm3'"),
        ({"name": 3}, "model: name: got 3, expected text"),
        ({"options": [1]}, "model: options: got a list of 1, expected a mapping"),
        ({"options": {"num_layer": 2}}, "model: options: unknown key 'num_layer', did you mean 'num_layers'"),
        ({"options": {2: 2}}, "model: options: got the key 2, expected text"),
        ({"options": {"dropout": "much"}}, "model: options: dropout: got 'much', expected a"),
        ({"options": {"modalities": ["audio"]}}, "modalities: got 'audio', the dataset has image"),
        (
            {"name": "popularity", "options": {"num_layers": 2}},
            "model: options: unknown key 'num_layers', popularity has no options",
        ),
    ],
)
def test_a_model_typed_wrong_by_hand(
    small_data: HeteroData, tmp_path: Path, section: dict[str, Any], message: str
) -> None:
    trained(small_data, tmp_path / "run")
    path = tmp_path / "run/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["model"] |= section
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(RunError, match=rf"config\.yaml: {message}"):
        load_run(tmp_path / "run", data=small_data)


def test_options_that_are_not_named_have_their_defaults(small_data: HeteroData, tmp_path: Path) -> None:
    model = trained(small_data, tmp_path / "run")
    path = tmp_path / "run/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["model"]["options"] = {"num_layers": 1}
    path.write_text(yaml.safe_dump(config))
    assert load_run(tmp_path / "run", data=small_data)[0].options == model.options
