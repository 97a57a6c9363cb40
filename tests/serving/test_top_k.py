from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bm3_pyg import recommend
from bm3_pyg.data import edges_of
from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.eval.cold import ColdItems
from bm3_pyg.models import Popularity
from bm3_pyg.serving import similar_items
from bm3_pyg.serving.top_k import embeddings_of


def best(scores: torch.Tensor, user: int, k: int, hidden: set[int], candidates: list[int] | None) -> list[int]:
    allowed = [i for i in range(scores.size(1)) if i not in hidden and (candidates is None or i in candidates)]
    ranked = sorted(allowed, key=lambda i: -float(scores[user, i]))[:k]
    return ranked + [-1] * (k - len(ranked))


@pytest.mark.parametrize("candidates", [None, [3, 1, 17], [0]])
@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("k", [1, 10, 60])
def test_lists_equal_a_sort(fixed: Any, random_data: Any, candidates: list[int] | None, exclude: bool, k: int) -> None:
    data = random_data(40, 30, 0.3, seed=1)
    scores = torch.randn(40, 30)
    users = [5, 0, 5, 39]
    ids, values = recommend(fixed(scores), users, k, data if exclude else None, candidates)
    seen = torch.cat([edges_of(data, split) for split in ("train", "val", "test")], dim=1)
    for row, user in enumerate(users):
        hidden = set(seen[1, seen[0] == user].tolist()) if exclude else set()
        assert ids[row].tolist() == best(scores, user, k, hidden, candidates)
        assert values[row].tolist() == [scores[user, i] if i >= 0 else float("-inf") for i in ids[row].tolist()]


def test_blocks_do_not_change_the_lists(fixed: Any, random_data: Any) -> None:
    data = random_data(3000, 400, 0.03, seed=0)
    scores = torch.randn(3000, 400)
    users = torch.randperm(3000)
    small, large = (recommend(fixed(scores), users, 5, data, memory_mb=size)[0] for size in (1, 64))
    assert torch.equal(small, large)


def test_no_users_give_no_lists(fixed: Any) -> None:
    ids, values = recommend(fixed(torch.randn(4, 4)), [], k=3)
    assert ids.shape == values.shape == (0, 3)


@pytest.mark.parametrize(("users", "candidates"), [([9], None), ([-1], None), ([0], [4]), ([0], [-1])])
def test_ids_out_of_range_are_refused(
    fixed: Any, random_data: Any, users: list[int], candidates: list[int] | None
) -> None:
    with pytest.raises(DataError, match="expected one from 0 to"):
        recommend(fixed(torch.randn(9, 4)), users, 2, random_data(9, 4, 0.5, seed=0), candidates)


def test_a_list_of_no_length_is_refused(fixed: Any) -> None:
    with pytest.raises(ConfigError, match="k: got 0"):
        recommend(fixed(torch.randn(4, 4)), [0], k=0)


def test_a_user_the_model_does_not_have_is_refused_without_a_dataset_too(fixed: Any) -> None:
    with pytest.raises(DataError, match=r"^user: got ids up to 9, more than the model has"):
        recommend(fixed(torch.randn(9, 4)), [2, 9], 2)


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([0.0, 1.0], r"torch.float32 \[2\]"),
        (torch.tensor([True, False, True]), r"torch.bool \[3\], expected integer ids \[n\]; mask.nonzero"),
        ([[0, 1], [1, 2]], r"torch.int64 \[2, 2\]"),
        (["a", "b"], "list, expected integer ids"),
        (np.array([1.5]), r"torch.float64 \[1\]"),
    ],
)
def test_ids_are_integers(fixed: Any, ids: Any, found: str) -> None:
    model = fixed(torch.randn(5, 6))
    model.embed = lambda: (torch.randn(5, 2), torch.randn(6, 2))
    calls: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("user", lambda: recommend(model, ids)),
        ("candidate", lambda: recommend(model, [0], candidates=ids)),
        ("item", lambda: similar_items(model, ids)),
        ("candidate", lambda: similar_items(model, [0], candidates=ids)),
    )
    for what, call in calls:
        with pytest.raises(DataError, match=f"^{what}: got {found}"):
            call()


def test_an_absurd_k_is_refused(fixed: Any) -> None:
    with pytest.raises(ConfigError, match="k: got 10000000000, expected an integer at least 1 and below"):
        recommend(fixed(torch.randn(5, 6)), [0], k=10**10)


def most_similar(items: torch.Tensor, item: int, k: int, candidates: list[int] | None) -> list[int]:
    allowed = [i for i in range(len(items)) if i != item and (candidates is None or i in candidates)]
    vectors = items.double()
    cosine = {i: float(vectors[i] @ vectors[item] / vectors[i].norm() / vectors[item].norm()) for i in allowed}
    best = sorted(allowed, key=lambda i: -cosine[i])[:k]
    return best + [-1] * (k - len(best))


@pytest.mark.parametrize("candidates", [None, [3, 9, 3, 0], [7], []])
@pytest.mark.parametrize("k", [1, 4, 40])
def test_similar_items_equal_a_loop(k: int, candidates: list[int] | None) -> None:
    items = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 2, 30)[:, None]
    given = [7, 0, 7, 29]
    ids, cosines = similar_items(ColdItems(torch.randn(5, 8), items), given, k, candidates)
    assert ids.tolist() == [most_similar(items, item, k, candidates) for item in given]
    unit = torch.nn.functional.normalize(items, dim=1)
    expected = torch.where(ids >= 0, (unit[given][:, None] * unit[ids]).sum(2), float("-inf"))
    torch.testing.assert_close(cosines, expected)


def test_blocks_do_not_change_similar_items() -> None:
    model = ColdItems(torch.randn(3, 4), torch.randn(2000, 4))
    small, large = (similar_items(model, range(1000), 3, memory_mb=size) for size in (1, 64))
    torch.testing.assert_close(small[1], large[1])
    assert (small[0] == large[0]).float().mean() > 0.99  # cosines that differ by rounding alone may change places


def test_no_items_and_the_only_item() -> None:
    model = ColdItems(torch.randn(3, 4), torch.randn(1, 4))
    assert similar_items(model, [], 2)[0].shape == (0, 2)
    assert similar_items(model, [0], 2)[0].tolist() == [[-1, -1]]


def test_a_model_without_embeddings_is_refused() -> None:
    model = Popularity(3, torch.tensor([[0, 1], [0, 2]]))
    with pytest.raises(ConfigError, match="Popularity has no embeddings"):
        similar_items(model, [0], 1)
    with pytest.raises(ConfigError, match="Popularity has no embeddings"):
        embeddings_of(model)


@pytest.mark.parametrize("arguments", [{"items": [3]}, {"items": [-1]}, {"items": [0], "candidates": [3]}])
def test_similar_items_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="expected one from 0 to 2"):
        similar_items(ColdItems(torch.randn(2, 4), torch.randn(3, 4)), **arguments)
    with pytest.raises(ConfigError, match="k: got 0"):
        similar_items(ColdItems(torch.randn(2, 4), torch.randn(3, 4)), [0], k=0)
