from __future__ import annotations

from typing import Any

import pytest
import torch

from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.eval.cold import ColdItems
from bm3_pyg.models import Popularity
from bm3_pyg.serving import similar_items
from bm3_pyg.serving.similar import embeddings_of


def naive(items: torch.Tensor, item: int, k: int, candidates: list[int] | None) -> list[int]:
    allowed = [i for i in range(len(items)) if i != item and (candidates is None or i in candidates)]
    vectors = items.double()
    cosine = {i: float(vectors[i] @ vectors[item] / vectors[i].norm() / vectors[item].norm()) for i in allowed}
    best = sorted(allowed, key=lambda i: -cosine[i])[:k]
    return best + [-1] * (k - len(best))


@pytest.mark.parametrize("candidates", [None, [3, 9, 3, 0], [7], []])
@pytest.mark.parametrize("k", [1, 4, 40])
def test_equal_to_a_loop(k: int, candidates: list[int] | None) -> None:
    items = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 2, 30)[:, None]
    asked = [7, 0, 7, 29]
    ids, cosines = similar_items(ColdItems(torch.randn(5, 8), items), asked, k, candidates)
    assert ids.tolist() == [naive(items, item, k, candidates) for item in asked]
    unit = torch.nn.functional.normalize(items, dim=1)
    expected = torch.where(ids >= 0, (unit[asked][:, None] * unit[ids]).sum(2), float("-inf"))
    torch.testing.assert_close(cosines, expected)


def test_blocks_do_not_change_the_lists() -> None:
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
def test_ids_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="expected one from 0 to 2"):
        similar_items(ColdItems(torch.randn(2, 4), torch.randn(3, 4)), **arguments)
    with pytest.raises(ConfigError, match="k: got 0"):
        similar_items(ColdItems(torch.randn(2, 4), torch.randn(3, 4)), [0], k=0)
