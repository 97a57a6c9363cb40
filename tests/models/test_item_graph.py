from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bm3_pyg.errors import ConfigError
from bm3_pyg.models.item_graph import build_item_graph


def slow_matrix(features: dict[str, Tensor], k: int, weights: dict[str, float]) -> Tensor:
    """S in double precision, by loops: ties by lower id, a zero row has cosine 0."""
    count = len(next(iter(features.values())))
    total = torch.zeros(count, count, dtype=torch.float64)
    for name, values in features.items():
        cosine = torch.nn.functional.cosine_similarity(values[:, None], values[None], dim=2)
        cosine = (cosine * 2**20).round()
        for i in range(count):
            others = sorted((-float(cosine[i, j]), j) for j in range(count) if j != i)
            near = [i, *(j for _, j in others[: k - 1])]
            total[i, near] += weights[name] / len(near)
    return total


@pytest.mark.parametrize(("k", "image_weight"), [(1, 0.1), (3, 0.1), (4, 1.0), (50, 0.5)])
def test_products_and_their_gradients(k: int, image_weight: float) -> None:
    torch.manual_seed(k)
    features = {"image": torch.randn(8, 4), "text": torch.randn(8, 3), "audio": torch.randn(8, 2)}
    features["image"][2], features["text"][5] = 0, features["text"][1]
    rest = (1 - image_weight) / 2
    expected = slow_matrix(features, k, {"image": image_weight, "text": rest, "audio": rest})
    graph = build_item_graph(features, k, image_weight)
    x = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    product = graph.propagate(x)
    torch.testing.assert_close(product, expected @ x)
    gradient = torch.randn_like(product)
    product.backward(gradient)
    torch.testing.assert_close(x.grad, expected.T @ gradient)


@pytest.mark.parametrize("names", [["image"], ["text", "audio"]])
def test_modalities_weigh_the_same_without_an_image_among_others(names: list[str]) -> None:
    features = {name: torch.randn(6, 3) for name in names}
    expected = slow_matrix(features, 2, dict.fromkeys(names, 1 / len(names)))
    torch.testing.assert_close(build_item_graph(features, 2, 0.1).propagate(torch.eye(6).double()), expected)


def test_one_item() -> None:
    graph = build_item_graph({"image": torch.ones(1, 3)}, 10, 0.1)
    assert graph.propagate(torch.tensor([[2.0]])).tolist() == [[2.0]]


def test_wrong_options_are_named() -> None:
    with pytest.raises(ConfigError, match="neighbours: got 0"):
        build_item_graph({"image": torch.ones(2, 3)}, 0, 0.1)
    with pytest.raises(ConfigError, match=r"image_weight: got 1\.5"):
        build_item_graph({"image": torch.ones(2, 3)}, 2, 1.5)
