"""What BM3 can do beyond the paper, all together against a plain dense model in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bm3_pyg import BM3, TrainConfig, build_optimizer, fit, load_dataset, load_run
from bm3_pyg.data import modalities
from bm3_pyg.errors import ConfigError
from bm3_pyg.nn.features import normalised
from bm3_pyg.ops.topk import nearest_rows

USERS, ITEMS, DIM, LAYERS, RATE = 19, 17, 8, 2, 0.25
PLUS: dict[str, Any] = {
    "normalize_features": True,
    "item_neighbours": 3,
    "mask_weight": 0.6,
    "mirror_weight": 0.4,
    "uniformity_weight": 0.3,
}


def edges() -> Tensor:
    """With an isolated user, an isolated item and repeated interactions."""
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randint(1, count, (70,), generator=generator) for count in (USERS, ITEMS)]
    return torch.cat([torch.stack(pairs), torch.stack(pairs)[:, :5]], dim=1)


def features() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tables = {name: torch.randn(ITEMS, d, generator=generator).double() for name, d in (("image", 12), ("text", 5))}
    tables["text"][4:7] = tables["text"][4]
    return tables


def model(**options: Any) -> BM3:
    torch.manual_seed(2)
    shape: dict[str, Any] = {"embedding_dim": DIM, "num_layers": LAYERS, "dropout": RATE}
    return BM3(USERS, ITEMS, edges(), modalities=features(), **shape, **options).double()


def plain_hidden(ours: BM3, tables: dict[str, Tensor], neighbours: int) -> tuple[Tensor, Tensor]:
    adjacency = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    adjacency[edges()[0], edges()[1] + USERS] = 1
    adjacency = adjacency + adjacency.T
    scale = adjacency.sum(1).clamp(min=1e-30).rsqrt() * (adjacency.sum(1) > 0)
    layers = [torch.cat([ours.user_embedding, ours.item_embedding])]
    for _ in range(LAYERS):
        layers.append((scale[:, None] * adjacency * scale) @ layers[-1])
    users, items = torch.stack(layers).mean(0).split([USERS, ITEMS])
    items = items + ours.item_embedding
    for table in tables.values():
        nearest = nearest_rows(table, neighbours)[0]
        items = items + ours.item_embedding[nearest].mean(1) / len(tables)
    return users, items


def plain_total(ours: BM3, tables: dict[str, Tensor], batch: tuple[Tensor, Tensor], masks: dict[str, Tensor]) -> Tensor:
    def c(a: Tensor, b: Tensor) -> Tensor:
        return 1 - F.cosine_similarity(a, b, dim=-1).mean()

    def apart(x: Tensor) -> Tensor:
        units = F.normalize(x)
        return (-2 * (units[:, None] - units).square().sum(-1)).exp().mean().log()

    f, (users, items) = ours.objective.predictor, batch
    h_u, h_i = plain_hidden(ours, tables, PLUS["item_neighbours"])
    t_u, t_i = (h.detach() * masks[n] / (1 - RATE) for n, h in (("user", h_u), ("item", h_i)))
    total: Tensor = (
        c(f(h_u)[users], t_i[items]) + c(f(h_i)[items], t_u[users]) + 0.1 * (h_u.norm() + h_i.norm()) / ITEMS
    )
    for name, table in tables.items():
        h_m = ours.projections[name](table)
        t_m = h_m.detach() * masks[name] / (1 - RATE)
        total = total + 2 * c(f(h_m)[items], t_i[items]) + PLUS["mask_weight"] * c(f(h_m)[items], t_m[items])
        total = total + PLUS["mirror_weight"] * c(f(h_i)[items], t_m[items])
    spread = (apart(f(h_u)[users]) + apart(f(h_i)[items])) / 2
    total = total + PLUS["uniformity_weight"] * spread
    return total


@pytest.mark.parametrize("size", [1, 40])
def test_total_and_gradients_are_those_of_a_plain_model(size: int) -> None:
    ours = model(**PLUS)
    tables = {name: normalised(x, torch.float64).requires_grad_() for name, x in features().items()}
    generator = torch.Generator().manual_seed(size)
    batch = torch.randint(USERS, (size,), generator=generator), torch.randint(ITEMS, (size,), generator=generator)
    sizes = {"user": USERS, "item": ITEMS, "image": ITEMS, "text": ITEMS}
    masks = {name: torch.rand(count, DIM, generator=generator) >= RATE for name, count in sizes.items()}
    found, expected = ours.loss(*batch, masks=masks).total, plain_total(ours, tables, batch, masks)
    torch.testing.assert_close(found, expected)
    dense = [ours.user_embedding, ours.item_embedding, *ours.objective.parameters()]
    for linear in ours.projections.values():
        dense += linear.parameters()
    inner = [ours.features[name].weight for name in tables]
    for of_found, of_expected in zip(
        torch.autograd.grad(found, [*dense, *inner]),
        torch.autograd.grad(expected, [*dense, *tables.values()]),
        strict=True,
    ):
        torch.testing.assert_close(of_found, of_expected, rtol=1e-8, atol=1e-12)
    users, items = plain_hidden(ours, tables, PLUS["item_neighbours"])
    scores = ours.objective.predictor(users) @ ours.objective.predictor(items).T
    torch.testing.assert_close(ours.scorer()(torch.tensor([3, 0])), scores[[3, 0]])


def test_every_option_starts_from_the_published_weights() -> None:
    """Options draw no random numbers, so that runs of one seed can be compared."""
    published = model().state_dict()
    for name, value in model(**PLUS).state_dict().items():
        if not name.startswith("features"):
            assert torch.equal(value, published[name]), name


@pytest.mark.parametrize("frozen", [False, True])
def test_normalising_leaves_the_callers_features_alone(frozen: bool) -> None:
    tables = {"image": torch.randn(ITEMS, 6) + 2}
    before = tables["image"].clone()
    ours = BM3(USERS, ITEMS, edges(), modalities=tables, freeze_features=frozen, normalize_features=True)
    torch.testing.assert_close(
        ours.features["image"].weight.detach().float(), normalised(before, torch.float32), rtol=1e-3, atol=1e-3
    )
    optimizer = build_optimizer(ours, lr=0.1)
    ours.loss(torch.arange(9), torch.arange(9)).total.backward()
    optimizer.step()
    assert torch.equal(tables["image"], before)


def test_an_encoder_gains_the_item_graph_too() -> None:
    class Same(nn.Module):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return x

    ours = model(item_neighbours=3, encoder=Same())
    assert ours.item_graph is not None
    expected = 2 * ours.item_embedding + ours.item_graph.smooth(ours.item_embedding)
    torch.testing.assert_close(ours.forward()[1], expected)


def test_a_run_is_loaded_with_its_options(tmp_path: Path) -> None:
    data = load_dataset("demo")
    torch.manual_seed(0)
    trained = BM3.from_data(data, embedding_dim=8, **PLUS)
    result = fit(trained, data, TrainConfig(max_epochs=1), out=tmp_path / "run", verbose=False)
    loaded, _ = load_run(tmp_path / "run", data=data)
    assert isinstance(loaded, BM3)
    assert loaded.options == trained.options
    assert loaded.options.items() >= PLUS.items()
    rows = torch.arange(5)
    assert torch.equal(loaded.scorer()(rows), trained.scorer()(rows))
    assert result.history[0]["loss"]["mirroring"] > 0 > result.history[0]["loss"]["uniformity"]
    assert set(trained.features) == set(modalities(data))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize_features": 1}, "normalize_features: got 1, expected true or false"),
        ({"item_neighbours": -1}, "item_neighbours: got -1, expected an integer at least 0"),
        ({"item_neighbours": 3, "modalities": {}}, "item_neighbours: got 3 without modalities"),
        ({"mask_weight": "x"}, "mask_weight: got 'x', expected a number"),
        ({"mirror_weight": -0.1}, "mirror_weight: got -0.1"),
        ({"uniformity_weight": None}, "uniformity_weight: got None"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BM3(USERS, ITEMS, edges(), **({"modalities": features()} | options))
