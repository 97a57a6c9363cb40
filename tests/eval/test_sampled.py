from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg import evaluate
from bm3_pyg.data import edges_of
from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.eval import ranking_task
from bm3_pyg.eval.sampled import _draw
from bm3_pyg.ops.csr import CSR

pytest.importorskip("ogb")


def naive(
    scores: torch.Tensor, data: HeteroData, split: str, negatives: int, seed: int, candidates: list[int] | None
) -> dict[str, float]:
    """User by user, positive by positive, from the list of the items that are free."""
    rng = np.random.default_rng(seed)
    pool = range(scores.size(1)) if candidates is None else sorted(set(candidates))
    edges = {name: set(map(tuple, edges_of(data, name).T.tolist())) for name in ("train", "val", "test")}
    ranks = []
    for user in range(scores.size(0)):
        free = [i for i in pool if all((user, i) not in edges[name] for name in edges)]
        if not free or not any(u == user for u, _ in edges["train"]):
            continue
        for item in sorted(i for u, i in edges[split] if u == user and i in pool):
            drawn = [free[int(rng.random() * len(free))] for _ in range(negatives)]
            above = sum(bool(scores[user, i] > scores[user, item]) for i in drawn)
            ties = sum(bool(scores[user, i] == scores[user, item]) for i in drawn)
            ranks.append(1 + above + ties / 2)
    values = {"mrr": [1 / r for r in ranks]} | {f"hits@{k}": [float(r <= k) for r in ranks] for k in (1, 3, 10)}
    return {f"sampled-{negatives} {name}": float(np.mean(of)) for name, of in values.items()}


@pytest.mark.parametrize("candidates", [None, [1, 2, 2, 5, 0]])
@pytest.mark.parametrize(
    ("users", "items", "density", "negatives"), [(40, 30, 0.2, 9), (60, 7, 0.5, 3), (9, 9, 0.5, 1)]
)
def test_equal_to_a_loop(
    fixed: Any, random_data: Any, users: int, items: int, density: float, negatives: int, candidates: list[int] | None
) -> None:
    data = random_data(users, items, density, seed=users)
    scores = torch.randint(5, (users, items), generator=torch.Generator().manual_seed(0)).float()
    for split in ("val", "test"):
        found = evaluate(fixed(scores), data, split, candidates=candidates, sampled=negatives, seed=3)
        assert found == pytest.approx(naive(scores, data, split, negatives, 3, candidates), rel=1e-6)


def test_blocks_do_not_change_the_result_and_seeds_do(fixed: Any, random_data: Any) -> None:
    data = random_data(3000, 400, 0.03, seed=0)
    model = fixed(torch.randn(3000, 400))
    found = evaluate(model, data, sampled=20, memory_mb=1)
    assert evaluate(model, data, sampled=20, memory_mb=64) == found
    assert evaluate(model, data, sampled=20, seed=1) != found


def test_draws_are_uniform_over_what_is_free() -> None:
    known = CSR.of(torch.tensor([[0, 0, 0, 2, 2, 2], [0, 3, 4, 9, 1, 2]]), num_rows=3, num_columns=10)
    drawn = _draw(np.random.default_rng(0), known, 10, torch.tensor([2, 0, 1]), 20_000)
    for row, taken in zip(drawn, ({1, 2, 9}, {0, 3, 4}, set()), strict=True):
        count = torch.bincount(row, minlength=10)
        free = [i for i in range(10) if i not in taken]
        assert set(row.tolist()) == set(free)
        assert (count[free] - 20_000 / len(free)).abs().max() < 5 * (20_000 / len(free)) ** 0.5


def test_sampled_negatives_flatter_a_recommender(fixed: Any, random_data: Any) -> None:
    """Why a full ranking is preferred: Hits@10 among 20 is high for scores at random."""
    data = random_data(200, 1000, 0.02, seed=0)
    model = fixed(torch.rand(200, 1000))
    assert evaluate(model, data, sampled=20)["sampled-20 hits@10"] > 0.4
    assert evaluate(model, data, k=(10,))["recall@10"] < 0.05


def test_users_who_know_every_item(fixed: Any) -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 2
    data["user", "rates", "item"].edge_index = torch.tensor([[0, 1], [0, 0]])
    data["user", "rates", "item"].test_edge_index = torch.tensor([[0], [1]])
    assert ranking_task(data, "test").users.tolist() == [0]
    with pytest.raises(DataError, match="sampled: every user"):
        evaluate(fixed(torch.ones(2, 2)), data, sampled=1)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True])
def test_wrong_numbers_are_refused(fixed: Any, random_data: Any, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="sampled: got"):
        evaluate(fixed(torch.ones(9, 4)), random_data(9, 4, 0.5, seed=0), sampled=wrong)


def test_without_ogb_the_extra_is_named(fixed: Any, random_data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ogb.linkproppred", None)
    with pytest.raises(ConfigError, match=r'pip install "bm3-pyg\[ogb\]"'):
        evaluate(fixed(torch.ones(9, 4)), random_data(9, 4, 0.5, seed=0), sampled=2)
