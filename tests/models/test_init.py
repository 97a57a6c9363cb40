from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg import TrainConfig, evaluate, fit, load_dataset, load_run, recommend
from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.models import MODELS, model_named, option_names
from bm3_pyg.protocols import Recommender, Trainable
from bm3_pyg.train.settings import build_model

TRAINABLE = [name for name, cls in MODELS.items() if hasattr(cls, "loss")]
CONFIG = TrainConfig(max_epochs=3, batch_size=200, lr=0.01, checkpoint_seconds=0, save_features=True)


@pytest.fixture(scope="module")
def demo() -> HeteroData:
    return load_dataset("demo")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_built_from_data_and_tells_its_options(demo: HeteroData, name: str) -> None:
    model: Any = build_model(demo, {}, 0, "cpu", name)
    assert type(model).__name__.lower() == name
    assert set(model.options) == set(option_names(name))
    assert isinstance(model, Recommender)
    scores = model.scorer()(torch.tensor([3, 0, 3]))
    assert scores.shape == (3, 1000)
    torch.testing.assert_close(scores[0], scores[2])  # a product's rows may differ in their last bits


@pytest.mark.parametrize("name", [name for name in MODELS if name != "bm3"])
def test_every_model_beats_random_on_planted_data(demo: HeteroData, name: str, tmp_path: Path) -> None:
    """Random ranking has Recall@20 of .02; then the run is read back."""
    model = build_model(demo, {}, 0, "cpu", name)
    config = TrainConfig(max_epochs=8, batch_size=1024, lr=0.01, eval_every=8)
    result = fit(model, demo, config, tmp_path / "run", verbose=False)
    assert result.test["recall@20"] > 0.06
    loaded, _ = load_run(tmp_path / "run", data=demo)
    assert loaded.options == model.options
    assert evaluate(loaded, demo) == result.test
    assert torch.equal(recommend(loaded, [5, 6])[0], recommend(model, [5, 6])[0])


@pytest.mark.parametrize("name", TRAINABLE)
@pytest.mark.parametrize("stop_after", [2, 4])
def test_a_stopped_run_resumes_bit_for_bit(small_data: HeteroData, name: str, stop_after: int, tmp_path: Path) -> None:
    """Stopped within the first epoch, whose random numbers were drawn before, and within the second."""
    steps_of_an_epoch = -(-small_data["user", "rates", "item"].edge_index.size(1) // CONFIG.batch_size)
    assert steps_of_an_epoch == 3
    whole = build_model(small_data, {}, 0, "cpu", name)
    fit(whole, small_data, CONFIG, tmp_path / "whole", verbose=False)

    stopped = build_model(small_data, {}, 0, "cpu", name)
    steps, loss = [0], stopped.loss

    def interrupting(users: Tensor, items: Tensor) -> Any:
        steps[0] += 1
        if steps[0] == stop_after:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(users, items)

    stopped.loss = interrupting
    with pytest.raises(KeyboardInterrupt, match="resume"):
        fit(stopped, small_data, CONFIG, tmp_path / "stopped", verbose=False)
    resumed = build_model(small_data, {}, 1, "cpu", name)
    fit(resumed, small_data, CONFIG, tmp_path / "stopped", resume=True, verbose=False)
    weights, expected = resumed.state_dict(), whole.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    assert (tmp_path / "stopped/metrics.json").read_bytes() == (tmp_path / "whole/metrics.json").read_bytes()


def test_the_trainable_ones(demo: HeteroData) -> None:
    found = [name for name in MODELS if isinstance(build_model(demo, {}, 0, "cpu", name), Trainable)]
    assert found == TRAINABLE


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="model: got 'lightgnc', did you mean 'lightgcn'"):
        model_named("lightgnc")


@pytest.mark.parametrize("name", MODELS)
def test_data_without_training_interactions_is_refused_and_left_as_it_is(name: str) -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes, data["item"].image = 3, 4, torch.randn(4, 2)
    with pytest.raises(DataError, match="has no edge_index, expected training interactions"):
        MODELS[name].from_data(data)
    assert data.edge_types == []


@pytest.mark.parametrize("name", [name for name in MODELS if name != "popularity"])
def test_wrong_numbers_of_users_and_items_are_named(name: str) -> None:
    options = {"modalities": {"image": torch.randn(4, 2)}} if "modalities" in option_names(name) else {}
    edges = torch.empty(2, 0, dtype=torch.long)
    with pytest.raises(ConfigError, match=r"^num_users: got 0, expected an integer at least 1"):
        MODELS[name](0, 4, edges, **options)
    with pytest.raises(ConfigError, match=r"^num_items: got 4\.0"):
        MODELS[name](3, 4.0, edges, **options)
