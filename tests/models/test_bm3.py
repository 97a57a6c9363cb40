"""BM3 against an independent, plain implementation: all items projected, dense gradients, COO propagation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, build_optimizer
from bm3_pyg.errors import ConfigError, DataError, RunError
from bm3_pyg.nn import BootstrapObjective, objective

USERS, ITEMS, DIM = 37, 23, 8
FEATURES = {"image": 12, "text": 5}


class Plain(nn.Module):
    """The equations as they stand, with the authors' parameter names."""

    def __init__(self, edge_index: Tensor, features: dict[str, Tensor], layers: int, rate: float, reg: float) -> None:
        super().__init__()
        self.layers, self.rate, self.reg, self.names = layers, rate, reg, list(features)
        self.user_embedding, self.item_id_embedding = nn.Embedding(USERS, DIM), nn.Embedding(ITEMS, DIM)
        nn.init.xavier_uniform_(self.user_embedding.weight)
        nn.init.xavier_uniform_(self.item_id_embedding.weight)
        self.predictor = nn.Linear(DIM, DIM)
        for name, x in features.items():
            setattr(self, f"{name}_embedding", nn.Embedding.from_pretrained(x.clone(), freeze=False))
            setattr(self, f"{name}_trs", nn.Linear(x.size(1), DIM))
        nodes = USERS + ITEMS
        adjacency = torch.zeros(nodes, nodes, dtype=torch.float64)
        adjacency[edge_index[0], edge_index[1] + USERS] = 1
        adjacency = adjacency + adjacency.T
        scale = adjacency.sum(1).clamp(min=1e-30).rsqrt() * (adjacency.sum(1) > 0)
        self.adjacency = (scale[:, None] * adjacency * scale).to_sparse_coo()

    def hidden(self) -> tuple[Tensor, Tensor]:
        x = torch.cat([self.user_embedding.weight, self.item_id_embedding.weight])
        layers = [x]
        for _ in range(self.layers):
            layers.append(torch.sparse.mm(self.adjacency.to(x.dtype), layers[-1]))
        users, items = torch.stack(layers).mean(0).split([USERS, ITEMS])
        return users, items + self.item_id_embedding.weight

    def loss(self, users: Tensor, items: Tensor, masks: dict[str, Tensor]) -> dict[str, Tensor]:
        def target(name: str, h: Tensor) -> Tensor:
            return h.detach() * masks[name].to(h.dtype) / (1 - self.rate)

        def c(a: Tensor, b: Tensor) -> Tensor:
            return 1 - F.cosine_similarity(a, b, dim=-1).mean()

        h_u, h_i = self.hidden()
        t_u, t_i = target("user", h_u)[users], target("item", h_i)[items]
        rec = c(self.predictor(h_u)[users], t_i) + c(self.predictor(h_i)[items], t_u)
        align = mask = torch.zeros((), dtype=h_u.dtype)
        for name in self.names:
            h_m = getattr(self, f"{name}_trs")(getattr(self, f"{name}_embedding").weight)
            online = self.predictor(h_m)[items]
            align = align + c(online, t_i)
            mask = mask + c(online, target(name, h_m)[items])
        reg = (h_u.norm() + h_i.norm()) / ITEMS
        total = rec + 2 * (align + mask) + self.reg * reg
        return {"total": total, "reconstruction": rec, "alignment": align, "masking": mask, "regularisation": reg}


def random_edges(seed: int = 0) -> Tensor:
    """Training edges with an isolated user, an isolated item and repeated interactions."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.randint(1, USERS, (150,), generator=generator)
    items = torch.randint(1, ITEMS, (150,), generator=generator)
    edges = torch.stack([users, items])
    return torch.cat([edges, edges[:, :10]], dim=1)


def pair(layers: int, rate: float, names: list[str], dtype: torch.dtype = torch.float32) -> tuple[BM3, Plain]:
    torch.manual_seed(layers)
    features = {name: torch.randn(ITEMS, FEATURES[name]) for name in names}
    plain = Plain(random_edges(), features, layers, rate, reg=0.1)
    ours = BM3(USERS, ITEMS, random_edges(), modalities=features, embedding_dim=DIM, num_layers=layers, dropout=rate)
    ours.load_official_state_dict(plain.state_dict())
    return ours.to(dtype), plain.to(dtype)


def random_masks(names: list[str], rate: float, generator: torch.Generator) -> dict[str, Tensor]:
    sizes = {"user": USERS, "item": ITEMS} | dict.fromkeys(names, ITEMS)
    return {name: torch.rand(size, DIM, generator=generator) >= rate for name, size in sizes.items()}


def random_batch(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return (
        torch.randint(USERS, (size,), generator=generator),
        torch.randint(ITEMS, (size,), generator=generator),
    )


CASES = [
    (layers, rate, names) for layers in (1, 2) for rate in (0.0, 0.5) for names in (["image", "text"], ["text"], [])
]


@pytest.mark.parametrize(("layers", "rate", "names"), CASES)
def test_fifty_steps_of_adam_agree_loss_by_loss(layers: int, rate: float, names: list[str]) -> None:
    ours, plain = pair(layers, rate, names)
    our_adam, plain_adam = build_optimizer(ours, lr=1e-3), torch.optim.Adam(plain.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    for step in range(50):
        users, items = random_batch(1 if step == 25 else 64, generator)
        masks = random_masks(names, rate, generator)
        found, expected = ours.loss(users, items, masks=masks), plain.loss(users, items, masks)
        for name, value in expected.items():
            torch.testing.assert_close(getattr(found, name), value, rtol=1e-5, atol=1e-7, msg=f"{name} at step {step}")
        for losses, optimizer in ((found.total, our_adam), (expected["total"], plain_adam)):
            losses.backward()
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize(("layers", "rate", "names"), CASES)
def test_every_gradient_agrees_in_float64(layers: int, rate: float, names: list[str]) -> None:
    ours, plain = pair(layers, rate, names, torch.float64)
    generator = torch.Generator().manual_seed(2)
    users, items = random_batch(64, generator)
    masks = random_masks(names, rate, generator)
    ours.loss(users, items, masks=masks).total.backward()
    plain.loss(users, items, masks)["total"].backward()
    compared = {
        "user_embedding.weight": ours.user_embedding,
        "item_id_embedding.weight": ours.item_embedding,
        "predictor.weight": ours.objective.predictor.weight,
        "predictor.bias": ours.objective.predictor.bias,
    }
    for name in names:
        compared[f"{name}_embedding.weight"] = ours.features[name].weight
        compared[f"{name}_trs.weight"] = ours.projections[name].weight
        compared[f"{name}_trs.bias"] = ours.projections[name].bias
    expected = dict(plain.named_parameters())
    assert compared.keys() == expected.keys()
    for name, parameter in compared.items():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-10, atol=1e-14, msg=name)


def test_scores_agree() -> None:
    ours, plain = pair(2, 0.5, ["image"], torch.float64)
    users, items = (plain.predictor(h) for h in plain.hidden())
    rows = torch.tensor([3, 0, 3])
    torch.testing.assert_close(ours.scorer()(rows), (users @ items.T)[rows])


def test_one_mask_a_node_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that stands twice in the batch, under two users, has one target, which serves every loss."""
    ours, plain = pair(1, 0.5, ["image"], torch.float64)
    users, items = torch.tensor([1, 2, 1, 5]), torch.tensor([4, 4, 4, 7])
    drawn: list[Tensor] = []

    def record(rows: Tensor, rate: float, generator: object) -> Tensor:
        drawn.append(torch.rand(rows.shape) >= rate)
        return rows.detach() * drawn[-1] / (1 - rate)

    monkeypatch.setattr(objective, "dropout", record)
    losses = ours.loss(users, items)
    monkeypatch.undo()
    assert [list(mask.shape) for mask in drawn] == [[3 + 2 + 2, DIM]]
    kept = drawn[0]
    masks = {"user": torch.ones(USERS, DIM, dtype=torch.bool)}
    masks |= {name: torch.ones(ITEMS, DIM, dtype=torch.bool) for name in ("item", "image")}
    masks["user"][[1, 2, 5]], masks["item"][[4, 7]], masks["image"][[4, 7]] = kept.split([3, 2, 2])
    for name, value in plain.loss(users, items, masks).items():
        torch.testing.assert_close(getattr(losses, name), value)


def test_dropout_rate_and_scale() -> None:
    target = BootstrapObjective(64, dropout=0.3)._target(torch.ones(2000, 64), None, torch.Generator().manual_seed(0))
    assert target.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert float((target == 0).float().mean()) == pytest.approx(0.3, abs=0.01)


def test_dropout_applies_in_eval_mode_too() -> None:
    ours, _ = pair(1, 0.5, ["image"])
    ours.eval()
    users, items = random_batch(64, torch.Generator().manual_seed(3))
    assert not torch.equal(ours.loss(users, items).total, ours.loss(users, items).total)


def test_alignment_and_masking_give_the_id_embeddings_no_gradient() -> None:
    ours, _ = pair(2, 0.5, ["image", "text"])
    users, items = random_batch(64, torch.Generator().manual_seed(4))
    losses = ours.loss(users, items)
    parameters = [ours.user_embedding, ours.item_embedding]
    gradients = torch.autograd.grad(losses.alignment + losses.masking, parameters, retain_graph=True, allow_unused=True)
    assert all(gradient is None or not gradient.any() for gradient in gradients)
    assert all(gradient.any() for gradient in torch.autograd.grad(losses.reconstruction, parameters))


def test_no_gradient_flows_through_a_target() -> None:
    """With f = 0 the online side is constant, so any gradient would have come through the targets."""
    ours, _ = pair(1, 0.0, ["image"])
    with torch.no_grad():
        ours.objective.predictor.weight.zero_()
    users, items = random_batch(64, torch.Generator().manual_seed(5))
    losses = ours.loss(users, items)
    (losses.reconstruction + losses.alignment + losses.masking).backward()
    for parameter in (ours.user_embedding, ours.item_embedding, ours.features["image"].weight):
        assert parameter.grad is None or not parameter.grad.any()


def test_only_the_distinct_items_of_the_batch_are_projected() -> None:
    ours, _ = pair(1, 0.5, ["image"])
    seen: list[Tensor] = []
    project = ours.features["image"].project
    ours.features["image"].project = lambda rows, linear: seen.append(rows) or project(rows, linear)  # type: ignore
    ours.loss(torch.tensor([1, 2, 3]), torch.tensor([9, 4, 9]))
    assert [rows.tolist() for rows in seen] == [[4, 9]]


def test_batch_losses_equal_the_objective_on_whole_tables() -> None:
    ours, _ = pair(1, 0.5, ["image", "text"], torch.float64)
    generator = torch.Generator().manual_seed(6)
    users, items = random_batch(64, generator)
    masks = random_masks(["image", "text"], 0.5, generator)
    latents = {name: ours.projections[name](ours.features[name].weight) for name in ("image", "text")}
    whole = ours.objective(*ours.forward(), latents, users, items, masks=masks)
    for found, expected in zip(ours.loss(users, items, masks=masks), whole, strict=True):
        torch.testing.assert_close(found, expected)


def test_initialisation_follows_the_paper() -> None:
    torch.manual_seed(0)
    model = BM3(3000, 1000, torch.tensor([[0], [0]]), modalities={"image": torch.randn(1000, 512)})
    for table in (model.user_embedding, model.item_embedding):
        bound = (6 / (table.size(0) + 64)) ** 0.5
        assert float(table.detach().abs().max()) <= bound
        assert float(table.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    assert float(model.projections["image"].weight.std()) == pytest.approx((2 / (512 + 64)) ** 0.5, rel=0.03)
    assert float(model.objective.predictor.weight.std()) == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert float(model.projections["image"].bias.abs().max()) <= 512**-0.5


def test_training_leaves_the_callers_features_alone() -> None:
    features = torch.randn(ITEMS, 12)
    before = features.clone()
    model = BM3(USERS, ITEMS, random_edges(), modalities={"image": features}, embedding_dim=DIM)
    optimizer = build_optimizer(model, lr=0.1)
    model.loss(*random_batch(64, torch.Generator())).total.backward()
    optimizer.step()
    model.features["image"].flush()
    assert torch.equal(features, before)
    assert not torch.equal(model.features["image"].weight, before)


def test_frozen_features_stay_and_leave_no_trace_in_the_state() -> None:
    features = torch.randn(ITEMS, 12)
    model = BM3(USERS, ITEMS, random_edges(), modalities={"image": features}, embedding_dim=DIM, freeze_features=True)
    optimizer = build_optimizer(model, lr=0.1)
    model.loss(*random_batch(64, torch.Generator())).total.backward()
    optimizer.step()
    assert torch.equal(model.features["image"].weight, features.half())
    assert not any("features" in name for name in model.state_dict())


def test_any_encoder_takes_the_place_of_the_propagation() -> None:
    from torch_geometric.nn import LGConv

    class OneLayer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = LGConv()

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            convolved: Tensor = self.conv(x, edge_index)
            return (x + convolved) / 2

    ours, _ = pair(1, 0.0, [], torch.float64)
    other = BM3(USERS, ITEMS, random_edges(), embedding_dim=DIM, dropout=0.0, encoder=OneLayer()).double()
    other.load_state_dict(ours.state_dict())
    users, items = random_batch(64, torch.Generator().manual_seed(7))
    torch.testing.assert_close(other.loss(users, items).total, ours.loss(users, items).total)


def test_from_data_takes_every_modality_or_those_named() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = USERS, ITEMS
    data["item"].image, data["item"].text = torch.randn(ITEMS, 12), torch.randn(ITEMS, 5)
    data["user", "rates", "item"].edge_index = random_edges()
    assert list(BM3.from_data(data).features) == ["image", "text"]
    model = BM3.from_data(data, modalities=["text"], num_layers=2)
    assert list(model.features) == ["text"]
    assert list(BM3.from_data(data, **model.options).features) == ["text"]
    with pytest.raises(ConfigError, match="audio"):
        BM3.from_data(data, modalities=["audio"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, "dropout: got 1.0, expected a number at least 0 and below 1"),
        ({"num_layers": 1.5}, "num_layers: got 1.5, expected an integer"),
        ({"embedding_dim": 0}, "embedding_dim: got 0"),
        ({"reg_weight": "x"}, "reg_weight: got 'x'"),
        ({"align_weight": -1}, "align_weight: got -1"),
        ({"freeze_features": 1}, "freeze_features: got 1, expected true or false"),
        ({"modalities": {"image": torch.zeros(5, 3)}}, r"modality image: got shape \[5, 3\], expected \[23, d\]"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BM3(USERS, ITEMS, random_edges(), **options)


def test_a_batch_of_two_shapes_is_refused() -> None:
    ours, _ = pair(1, 0.5, [])
    with pytest.raises(ConfigError, match=r"got shapes \[2\] and \[1\]"):
        ours.loss(torch.tensor([0, 1]), torch.tensor([0]))


def test_edges_out_of_range_are_refused() -> None:
    with pytest.raises(DataError):
        BM3(USERS, ITEMS, torch.tensor([[0], [ITEMS]]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("predictor.bias"), "no weight 'predictor.bias'"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown weight 'extra'"),
        (lambda s: s["predictor.bias"].fill_(float("nan")), r"predictor\.bias holds NaN or infinity"),
        (lambda s: s.update({"image_trs.bias": torch.zeros(3)}), r"image_trs.bias has shape \[3\], expected \[8\]"),
    ],
)
def test_official_weights_that_do_not_fit_are_refused_whole(
    damage: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    ours, plain = pair(1, 0.5, ["image"])
    state = {name: value + 1 for name, value in plain.state_dict().items()}
    damage(state)
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(RunError, match=message):
        ours.load_official_state_dict(state)
    assert all(torch.equal(before[name], value) for name, value in ours.state_dict().items())


def test_official_names_can_be_mapped() -> None:
    features = {"text": torch.randn(ITEMS, 5)}
    plain = Plain(random_edges(), features, 1, 0.5, 0.1)
    ours = BM3(USERS, ITEMS, random_edges(), modalities={"audio": torch.zeros(ITEMS, 5)}, embedding_dim=DIM)
    ours.load_official_state_dict(plain.state_dict(), {"text": "audio"})
    assert torch.equal(ours.features["audio"].weight, features["text"])
    with pytest.raises(RunError, match="modality audio"):
        ours.load_official_state_dict(plain.state_dict())
