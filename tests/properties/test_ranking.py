"""Lists by user and the metrics of a full ranking, against loops over users."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.errors import DataError
from bm3_pyg.eval import evaluate
from bm3_pyg.ops.csr import CSR
from bm3_pyg.protocols import Scorer

Pairs = list[tuple[int, int]]


@st.composite
def splits(draw: st.DrawFn) -> tuple[int, int, dict[str, Pairs]]:
    """Numbers of users and of items, and distinct pairs of each split; a pair may stand in several."""
    users, items = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    pair = st.tuples(st.integers(0, users - 1), st.integers(0, items - 1))
    return users, items, {split: draw(st.lists(pair, max_size=20, unique=True)) for split in ("train", "val", "test")}


def edges(pairs: Pairs) -> Tensor:
    return torch.tensor(pairs, dtype=torch.long).view(-1, 2).T.contiguous()


def as_data(users: int, items: int, pairs: dict[str, Pairs]) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = users, items
    for split, name in (("train", "edge_index"), ("val", "val_edge_index"), ("test", "test_edge_index")):
        data["user", "rates", "item"][name] = edges(pairs[split])
    return data


class Fixed:
    """A recommender of given scores [U, I]."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def scorer(self) -> Scorer:
        return lambda users: self.scores[users]


@given(splits(), st.data())
def test_ragged_lists_are_sorted_sets(drawn: tuple[int, int, dict[str, Pairs]], data: st.DataObject) -> None:
    users, items, pairs = drawn
    repeated = pairs["train"] + data.draw(
        st.lists(st.sampled_from(pairs["train"]), max_size=5) if pairs["train"] else st.just([])
    )
    ragged = CSR.of(edges(repeated), users, items)
    own = [sorted({item for user, item in pairs["train"] if user == one}) for one in range(users)]
    assert ragged.lengths().tolist() == list(map(len, own))
    asked = data.draw(st.lists(st.integers(0, users - 1), max_size=8))
    position, found = (part.tolist() for part in ragged.entries(torch.tensor(asked, dtype=torch.long)))
    assert list(zip(position, found, strict=True)) == [(at, item) for at, one in enumerate(asked) for item in own[one]]


@given(
    splits(),
    st.sampled_from(["train", "seen"]),
    st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True),
    st.booleans(),
    st.data(),
)
def test_metrics_are_those_of_a_loop(
    drawn: tuple[int, int, dict[str, Pairs]], mask: str, cutoffs: list[int], some: bool, draws: st.DataObject
) -> None:
    """Tied scores, users without training interactions, positives that are hidden, and few candidates included."""
    users, items, pairs = drawn
    line = st.lists(st.integers(-2, 2).map(float), min_size=items, max_size=items)
    scores = draws.draw(st.lists(line, min_size=users, max_size=users))
    candidates = (
        draws.draw(st.lists(st.integers(0, items - 1), min_size=1, unique=True)) if some else list(range(items))
    )
    model, data = Fixed(torch.tensor(scores)), as_data(users, items, pairs)
    sums: dict[str, list[float]] = {}
    for user in range(users):
        train, val, test = ({i for u, i in pairs[split] if u == user} for split in ("train", "val", "test"))
        positives = test & set(candidates)
        if not positives or not train:
            continue
        hidden = train | val if mask == "seen" else train
        ranking = sorted(set(candidates) - hidden, key=lambda item: (-scores[user][item], item))
        for k in cutoffs:
            hits = [item in positives for item in ranking[:k]]
            ideal = sum(1 / math.log2(at + 2) for at in range(min(k, len(positives))))
            gained = sum(hit / math.log2(at + 2) for at, hit in enumerate(hits))
            sums.setdefault(f"recall@{k}", []).append(sum(hits) / len(positives))
            sums.setdefault(f"ndcg@{k}", []).append(gained / ideal)
            sums.setdefault(f"precision@{k}", []).append(sum(hits) / k)
            sums.setdefault(f"hitrate@{k}", []).append(float(any(hits)))
            sums.setdefault(f"mrr@{k}", []).append(1 / (hits.index(True) + 1) if any(hits) else 0.0)
    given_candidates = candidates if some else None
    if not sums:
        with pytest.raises(DataError, match="nothing to evaluate"):
            evaluate(model, data, "test", cutoffs, mask, candidates=given_candidates)
        return
    found = evaluate(model, data, "test", cutoffs, mask, candidates=given_candidates)
    for name, values in sums.items():
        assert found[name] == pytest.approx(sum(values) / len(values), rel=1e-6, abs=1e-9), name
