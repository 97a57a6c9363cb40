"""BM3 with PyG's convolutions in place of its propagation, and BM3's objective on another recommender's embeddings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.nn import GATConv, GCNConv, LGConv, SAGEConv

from bm3_pyg import BM3, TrainConfig, evaluate, fit, load_dataset
from bm3_pyg.data import edges_of
from bm3_pyg.errors import ConfigError
from bm3_pyg.models import Popularity
from bm3_pyg.nn import BM3Losses, BootstrapObjective
from bm3_pyg.protocols import Scorer

DIM = 32
CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "LGConv": LGConv,
    "GCNConv": lambda: GCNConv(DIM, DIM),
    "SAGEConv": lambda: SAGEConv(DIM, DIM),
    "GATConv": lambda: GATConv(DIM, DIM // 4, heads=4),
}


class MeanOfLayers(nn.Module):
    """A stack of convolutions, the mean of whose layers (the input too) is the result."""

    def __init__(self, *convolutions: nn.Module) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        layers = [x]
        for convolution in self.convolutions:
            layers.append(convolution(layers[-1], edge_index))
        return torch.stack(layers).mean(0)


class MatrixFactorisation(nn.Module):
    """Plain embeddings, trained by the bootstrap objective."""

    def __init__(self, data: HeteroData) -> None:
        super().__init__()
        self.users = nn.Parameter(nn.init.xavier_uniform_(torch.empty(data["user"].num_nodes, DIM)))
        self.items = nn.Parameter(nn.init.xavier_uniform_(torch.empty(data["item"].num_nodes, DIM)))
        self.image = data["item"].image
        self.project = nn.Linear(self.image.size(1), DIM)
        self.objective = BootstrapObjective(DIM, modalities=("image",))

    def loss(self, users: Tensor, items: Tensor) -> BM3Losses:
        losses: BM3Losses = self.objective(self.users, self.items, {"image": self.project(self.image)}, users, items)
        return losses

    @torch.no_grad()
    def scorer(self) -> Scorer:
        users, items = (self.objective.predictor(table) for table in (self.users, self.items))
        return lambda ids: users[ids] @ items.T


@pytest.fixture(scope="module")
def data() -> HeteroData:
    return load_dataset("demo")


def recall(model: nn.Module, data: HeteroData) -> float:
    return evaluate(model, data, "val", k=(20,))["recall@20"]  # type: ignore[arg-type]


def mean_loss(model: nn.Module, data: HeteroData) -> float:
    """The loss of the same interactions under the same dropout masks, whatever was drawn before."""
    with torch.random.fork_rng([]), torch.no_grad():
        torch.manual_seed(5)
        return float(model.loss(*edges_of(data, "train")[:, ::3]).total)  # type: ignore[operator]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_stack_of_convolutions_trains(name: str, data: HeteroData) -> None:
    torch.manual_seed(0)
    encoder = MeanOfLayers(*[CONVOLUTIONS[name]() for _ in range(2)])
    model = BM3.from_data(data, embedding_dim=DIM, encoder=encoder, modalities=["text"])
    loss_before, recall_before = mean_loss(model, data), recall(model, data)
    model.loss(*edges_of(data, "train")[:, :64]).total.backward()
    for parameter in [*encoder.parameters(), model.user_embedding, model.item_embedding]:
        assert parameter.grad is not None
        assert parameter.grad.any()
    fit(model, data, TrainConfig(max_epochs=2, lr=0.01), verbose=False)
    assert mean_loss(model, data) < 0.8 * loss_before
    assert recall(model, data) > 2 * recall_before


@pytest.mark.long
def test_with_lgconv_bm3_ranks_far_better_than_popularity(data: HeteroData) -> None:
    torch.manual_seed(0)
    model = BM3.from_data(data, embedding_dim=DIM, encoder=MeanOfLayers(LGConv()), modalities=["text"])
    fit(model, data, TrainConfig(max_epochs=5, batch_size=512, lr=0.01), verbose=False)
    assert recall(model, data) > 1.5 * recall(Popularity.from_data(data), data)


def test_the_objective_alone_trains_matrix_factorisation(data: HeteroData) -> None:
    torch.manual_seed(0)
    model = MatrixFactorisation(data)
    loss_before, recall_before = mean_loss(model, data), recall(model, data)
    fit(model, data, TrainConfig(max_epochs=15, batch_size=512, lr=0.01), verbose=False)
    assert mean_loss(model, data) < 0.8 * loss_before
    assert recall(model, data) > 1.5 * recall_before


class Cut(nn.Module):
    """Some of the rows and columns of x."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return x[: self.rows, : self.columns]


@pytest.mark.parametrize(("rows", "columns"), [(6, 4), (7, 3)])
def test_embeddings_of_another_shape_are_named(rows: int, columns: int) -> None:
    model = BM3(3, 4, torch.tensor([[0], [1]]), embedding_dim=4, encoder=Cut(rows, columns))
    with pytest.raises(ConfigError, match=rf"^encoder: got embeddings \[{rows}, {columns}\], expected \[7, 4\]"):
        model.embed()


def test_an_encoder_is_a_module() -> None:
    with pytest.raises(ConfigError, match=r"^encoder: got 'GCNConv', expected a torch"):
        BM3(3, 4, torch.tensor([[0], [1]]), encoder="GCNConv")  # type: ignore[arg-type]
