"""All that ranks does so in eval mode, and leaves no trace in the model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, TrainConfig, evaluate, fit, load_dataset, recommend
from bm3_pyg.eval import with_cold_items
from bm3_pyg.eval.users import positive_hits, user_metrics, write_user_metrics
from bm3_pyg.serving import recommend_new, similar_items
from bm3_pyg.serving.embeddings import export_embeddings


class Encoder(nn.Module):
    """Random and with statistics that move, in training mode."""

    inside: Any

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.BatchNorm1d(8))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        moved: Tensor = x + self.inside(x)
        return moved


@pytest.fixture(scope="module")
def demo() -> HeteroData:
    return load_dataset("demo")


def model_of(data: HeteroData) -> BM3:
    torch.manual_seed(0)
    model = BM3.from_data(data, embedding_dim=8, encoder=Encoder())
    assert isinstance(model.encoder, Encoder)
    model.encoder.inside[3].eval()  # someone has frozen these statistics
    return model


RANKINGS: dict[str, Callable[[BM3, HeteroData, Path], Any]] = {
    "evaluate": lambda model, data, path: evaluate(model, data, k=(20,)),
    "sampled": lambda model, data, path: evaluate(model, data, sampled=5),
    "recommend": lambda model, data, path: recommend(model, [3, 4], k=5),
    "similar": lambda model, data, path: similar_items(model, [3, 4], k=5),
    "cold": lambda model, data, path: with_cold_items(model, data).embed(),
    "new": lambda model, data, path: recommend_new(model, [[1, 2], [5]], k=5),
    "users": lambda model, data, path: user_metrics(model, data).to_dict(as_series=False),
    "hits": lambda model, data, path: positive_hits(model, data).to_dict(as_series=False),
    "written": lambda model, data, path: write_user_metrics(model, data, path),
    "exported": lambda model, data, path: export_embeddings(model, data, path / "out", "npy"),
    "scorer": lambda model, data, path: model.scorer()(torch.tensor([3, 4])),
    "as lightgcn": lambda model, data, path: model.as_lightgcn().recommend(
        torch.tensor([[0, 1], [2000, 2001]]), torch.tensor([0]), k=5
    ),
}


@pytest.mark.parametrize("name", RANKINGS)
def test_a_ranking_is_repeatable_and_moves_nothing(demo: HeteroData, name: str, tmp_path: Path) -> None:
    model = model_of(demo)
    weights = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    found = []
    for which in ("one", "two"):
        (tmp_path / which).mkdir()
        torch.manual_seed(5)
        before = torch.get_rng_state()
        found.append(RANKINGS[name](model, demo, tmp_path / which))
        assert torch.equal(torch.get_rng_state(), before)
        files = sorted(path for path in (tmp_path / which).rglob("*") if path.is_file())
        found.append([path.read_bytes() for path in files])
        assert [module.training for module in model.modules()] == modes
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=0)
    assert found[1] == found[3]
    after = model.state_dict()
    assert all(torch.equal(after[key], weights[key]) for key in weights)


def test_training_moves_what_trains_and_gives_the_modes_back(demo: HeteroData, tmp_path: Path) -> None:
    model = model_of(demo)
    assert isinstance(model.encoder, Encoder)
    statistics = [copy.deepcopy(model.encoder.inside[place].running_mean) for place in (1, 3)]
    modes = [module.training for module in model.modules()]
    result = fit(model, demo, TrainConfig(max_epochs=2, batch_size=8192), tmp_path / "run", verbose=False)
    assert [module.training for module in model.modules()] == modes
    assert not torch.equal(model.encoder.inside[1].running_mean, statistics[0])
    assert torch.equal(model.encoder.inside[3].running_mean, statistics[1])
    assert evaluate(model, demo) == result.test
    assert evaluate(model, demo, "val") == result.val
