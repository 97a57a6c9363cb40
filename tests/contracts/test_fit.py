"""What fit takes for a model, and how it leaves one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, BM3LightGCN, TrainConfig, evaluate, fit, recommend
from bm3_pyg.errors import ConfigError, RunError
from bm3_pyg.models import MODELS
from bm3_pyg.train.settings import build_model

CONFIG = TrainConfig(max_epochs=2, batch_size=200, lr=0.01, checkpoint_seconds=0)


class Misspelt(nn.Module):
    def __init__(self, inner: BM3) -> None:
        super().__init__()
        self.inner = inner
        self.scorer, self.losses = inner.scorer, inner.loss


@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (lambda model: model.as_lightgcn(), r"expected model\.as_bm3\(edge_index\)"),
        (nn.DataParallel, r"expected the module inside it, model\.module"),
        (Misspelt, "has parameters to train but no loss"),
        (type, "got the class BM3"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing_behind(
    some_data: HeteroData, wrap: Any, says: str, tmp_path: Path
) -> None:
    model = wrap(BM3.from_data(some_data, embedding_dim=8))
    with pytest.raises(ConfigError, match=says):
        fit(model, some_data, CONFIG, tmp_path / "run", verbose=False)
    assert not (tmp_path / "run").exists()


def test_a_view_is_trained_on_its_graph(some_data: HeteroData) -> None:
    torch.manual_seed(0)
    view = BM3LightGCN(70, 50, 8, 1)
    edges = some_data["user", "rates", "item"].edge_index + torch.tensor([[0], [70]])
    with pytest.raises(ConfigError, match="as_bm3"):
        evaluate(view, some_data)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="as_bm3"):
        recommend(view, [0])  # type: ignore[arg-type]
    before = view.bm3.user_embedding.detach().clone()
    model = view.as_bm3(edges)
    result = fit(model, some_data, CONFIG, verbose=False)
    assert not torch.equal(view.bm3.user_embedding, before)
    assert evaluate(view.as_bm3(edges), some_data) == result.test


@pytest.mark.parametrize("name", ["bm3", "freedom"])
def test_a_failure_leaves_a_plain_module(some_data: HeteroData, name: str) -> None:
    model = build_model(some_data, {"embedding_dim": 8}, 0, "cpu", name)
    model.eval()

    def fail(record: dict[str, Any]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(model, some_data, CONFIG, callbacks=[fail], verbose=False)
    assert not any(module.training for module in model.modules())
    assert model.double().state_dict()
    fit(model, some_data, CONFIG, verbose=False)


@pytest.mark.parametrize("name", [name for name, cls in MODELS.items() if hasattr(cls, "loss")])
def test_a_frozen_model_is_ranked_as_it_is(some_data: HeteroData, name: str, tmp_path: Path) -> None:
    model = build_model(some_data, {"embedding_dim": 8}, 0, "cpu", name).requires_grad_(False)
    expected = evaluate(model, some_data)
    result = fit(model, some_data, CONFIG, tmp_path / "run", verbose=False)
    assert (result.best_epoch, result.test) == (0, expected)
    assert not (tmp_path / "run/last.pt").exists()


def test_random_states_of_another_device_are_refused(some_data: HeteroData, tmp_path: Path) -> None:
    model = BM3.from_data(some_data, embedding_dim=8)
    fit(model, some_data, CONFIG, tmp_path / "run", verbose=False)
    last = torch.load(tmp_path / "run/last.pt", weights_only=True)
    assert last["rng"].shape == torch.get_rng_state().shape
    torch.save({**last, "rng": last["rng"][:16]}, tmp_path / "run/last.pt")  # as long as a GPU's
    with pytest.raises(RunError, match=r"last\.pt"):
        fit(BM3.from_data(some_data, embedding_dim=8), some_data, CONFIG, tmp_path / "run", resume=True, verbose=False)
