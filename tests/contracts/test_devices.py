"""Every model, all it does, on a device that is not the CPU: nothing mixes devices, and the results are the same."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg import TrainConfig, build_optimizer, evaluate, fit, recommend
from bm3_pyg.eval import with_cold_items
from bm3_pyg.eval.users import positive_hits, user_metrics, write_user_metrics
from bm3_pyg.models import MODELS, BM3LightGCN
from bm3_pyg.serving import recommend_new, similar_items
from bm3_pyg.serving.embeddings import export_embeddings
from bm3_pyg.train import loop, numbers
from bm3_pyg.train.settings import build_model

from .elsewhere import THERE, Remote, elsewhere, inside

CONFIG = TrainConfig(max_epochs=2, batch_size=200, lr=0.01)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in MODELS},
    "bm3 of ids": ("bm3", {"modalities": []}),
    "bm3 frozen": ("bm3", {"freeze_features": True, "num_layers": 2}),
    "bm3 plus": (
        "bm3",
        {
            "normalize_features": True,
            "item_neighbours": 3,
            "mask_weight": 0.5,
            "mirror_weight": 0.4,
            "uniformity_weight": 0.3,
        },
    ),
    "itemknn by image": ("itemknn", {"by": "image"}),
}


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        moved: Tensor = self.linear(x).index_add(0, edge_index[0], x[edge_index[1]])
        return moved


def build(data: HeteroData, variant: str) -> Any:
    name, options = VARIANTS[variant]
    options = {**options, **({"dropout": 0.0} if name == "bm3" else {})}  # masks are drawn in another order there
    if name not in ("popularity", "itemknn"):
        options["embedding_dim"] = 8
    return build_model(data, options, 0, "cpu", name)


def close(there: Any, here: Any) -> None:
    if isinstance(there, dict):
        assert there.keys() == here.keys()
        for key in there:
            close(there[key], here[key])
        return
    if isinstance(there, (tuple, list)):
        assert len(there) == len(here)
        for one, other in zip(there, here, strict=True):
            close(one, other)
        return
    one, other = (torch.as_tensor(inside(value)).detach() for value in (there, here))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def moved(model: Any) -> Any:
    model.to(THERE)
    for tensor in [*model.parameters(), *model.buffers()]:
        assert isinstance(tensor, Remote)
    return model


def losses(model: Any, data: HeteroData) -> Any:
    """Two steps, the second of which reads rows that wait for their moves; then everything is up to date."""
    if not hasattr(model, "loss"):
        return ()
    optimizer = build_optimizer(model, lr=0.01)
    found = []
    torch.manual_seed(0)
    for low in (0, 100, 0):
        users, items = data["user", "rates", "item"].edge_index[:, low : low + 100].to(model.device)
        optimizer.zero_grad()
        result = model.loss(users, items)
        result.total.backward()
        if hasattr(optimizer, "clip_grad_norm_"):
            found.append(optimizer.clip_grad_norm_(0.5))
        optimizer.step()
        found += [value.detach() for value in result]
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    return [found, dict(model.state_dict())]


def lists(ids: Tensor, scores: Tensor) -> Tensor:
    """The scores; ids may be others where they tie."""
    assert type(ids) is type(scores) is Tensor  # on the CPU, both
    return scores


def exported(model: Any, data: HeteroData, path: Path) -> Any:
    if not hasattr(model, "embed"):
        return ()
    export_embeddings(model, data, path, "npy")
    return [np.load(path / name) for name in ("users.npy", "items.npy")]


def for_bm3(call: Callable[[Any, HeteroData], Any]) -> Callable[[Any, HeteroData, Path], Any]:
    return lambda model, data, path: call(model, data) if hasattr(model, "as_lightgcn") else ()


def as_lightgcn(model: Any, data: HeteroData) -> Any:
    edges = data["user", "rates", "item"].edge_index + torch.tensor([[0], [70]])
    edges = edges.to(model.device)
    view: BM3LightGCN = model.as_lightgcn()
    nodes = torch.tensor([3, 80]).to(model.device)
    scores = view(edges)
    return [
        view.recommend(edges, nodes, k=3),
        view.predict_link(edges, prob=True),
        view.link_pred_loss(scores, torch.ones_like(scores)),
        view.recommendation_loss(scores[:9], scores[9:18], nodes),
    ]


def written(model: Any, data: HeteroData, path: Path) -> tuple[()]:
    write_user_metrics(model, data, path)
    return ()


def saved(model: Any, data: HeteroData, path: Path) -> Any:
    torch.save({name: inside(value) for name, value in model.state_dict().items()}, file := io.BytesIO())
    assert file.tell()
    return dict(model.state_dict())


USES: dict[str, Callable[[Any, HeteroData, Path], Any]] = {
    "losses and steps": lambda model, data, path: losses(model, data),
    "evaluate": lambda model, data, path: evaluate(model, data),
    "candidates": lambda model, data, path: evaluate(model, data, candidates=[1, 2, 3, 20, 30]),
    "sampled": lambda model, data, path: evaluate(model, data, sampled=5),
    "recommend": lambda model, data, path: lists(*recommend(model, [3, 4], 5, data)),
    "recommend there": lambda model, data, path: lists(
        *recommend(model, torch.tensor([3, 4]).to(model.device), 5, candidates=[1, 2])
    ),
    "users": lambda model, data, path: user_metrics(model, data)["recall@20"].to_list(),
    "hits": lambda model, data, path: positive_hits(model, data)["hit"].to_list(),
    "written": written,
    "exported": exported,
    "similar": lambda model, data, path: lists(*similar_items(model, [3, 4], 5)) if hasattr(model, "embed") else (),
    "cold": for_bm3(lambda model, data: with_cold_items(model, data).embed() if len(model.features) else ()),
    "new users": for_bm3(lambda model, data: lists(*recommend_new(model, [[1, 2], [], [40]], 5))),
    "as lightgcn": for_bm3(as_lightgcn),
    "state": saved,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_use_of_a_model(
    some_data: HeteroData, variant: str, use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BM3_KERNELS", "torch")
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    expected = USES[use](build(some_data, variant), some_data, tmp_path / "here")
    model = build(some_data, variant)
    with elsewhere():
        found = USES[use](moved(model), some_data, tmp_path / "there")
    close(found, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run(some_data: HeteroData, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, saved, read, told by users; with items held out that have no training interactions, too."""
    monkeypatch.setattr(numbers, "Generator", lambda device: torch.Generator())
    monkeypatch.setattr(torch.cuda, "default_generators", (torch.Generator(),))
    monkeypatch.setattr(loop, "peak_memory_mb", lambda device: 0.0)
    monkeypatch.setenv("BM3_KERNELS", "torch")
    edges = some_data["user", "rates", "item"].edge_index
    cold = some_data.clone()
    cold["user", "rates", "item"].edge_index = edges[:, edges[1] < 40]
    for split in ("val_edge_index", "test_edge_index"):
        held_out = cold["user", "rates", "item"][split]
        cold["user", "rates", "item"][split] = held_out[:, held_out[1] >= 40]
    for data in (some_data, cold):
        expected = fit(build(data, variant), data, CONFIG, verbose=False)
        model = build(data, variant)
        with elsewhere():
            found = fit(moved(model), data, CONFIG, verbose=False)
            write_user_metrics(model, data, tmp_path)
        close([record["loss"] for record in found.history], [record["loss"] for record in expected.history])
        assert found.test.keys() == expected.test.keys()


def test_an_encoder(some_data: HeteroData) -> None:
    def built() -> Any:
        return build_model(some_data, {"embedding_dim": 8, "dropout": 0.0, "encoder": Encoder()}, 0, "cpu")

    torch.manual_seed(0)
    expected = losses(built(), some_data)
    torch.manual_seed(0)
    model = built()
    with elsewhere():
        close(losses(moved(model), some_data), expected)


def test_mixed_devices_are_noticed() -> None:
    """The instrument works: what a GPU refuses is refused, what it takes is taken."""
    near = torch.arange(4)
    with elsewhere():
        far = near.to(THERE)
        calls: tuple[Callable[[], Tensor], ...] = (
            lambda: far + near,
            lambda: near[far],
            lambda: far.index_select(0, near),
            lambda: torch.cat([far, near]),
            lambda: near.index_copy_(0, far, far),
        )
        for call in calls:
            with pytest.raises(RuntimeError, match="mixes devices"):
                call()
        assert (far[near] + 1).device == far.device == torch.zeros(2, device=THERE).device
        assert type(far.cpu() + near) is Tensor
        assert int(far[2]) == 2
