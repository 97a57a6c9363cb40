from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg.errors import ConfigError
from bm3_pyg.study.picture import at_least, dataset_picture

RATES = ("user", "rates", "item")


@pytest.fixture
def shop() -> HeteroData:
    """Three users, four items; item 3 is nowhere, item 2 in no training interaction."""
    data = HeteroData()
    data.name = "corner $hop$ <b>"
    data["user"].num_nodes, data["item"].num_nodes = 3, 4
    data[RATES].edge_index = torch.tensor([[0, 0, 1, 2], [0, 1, 0, 0]])
    data[RATES].val_edge_index = torch.tensor([[1], [1]])
    data[RATES].test_edge_index = torch.tensor([[1, 2], [2, 1]])
    return data


def words(picture: Path) -> list[str]:
    """The texts in an SVG file."""
    found = re.findall(r"<text[^>]*>(.*?)</text>", picture.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", "", one).split()) for one in found]


@pytest.mark.parametrize("degrees", [[0], [3], [0, 0, 1], [5, 1, 1, 2, 0, 5, 40]])
def test_shares_of_nodes_with_at_least_k(degrees: list[int]) -> None:
    values, shares = at_least(np.array(degrees))
    assert values.tolist() == sorted({one for one in degrees if one > 0})
    assert shares.tolist() == [sum(one >= k for one in degrees) / len(degrees) for k in values]


def test_the_picture_says_what_is_in_the_data(shop: HeteroData, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shop["item"].image, shop["item"].image_missing = torch.ones(4, 2000), torch.tensor([True, False, False, False])
    shop[RATES].time = torch.tensor([1_300_000_000, 1_350_000_000, 1_400_000_000, 1_400_000_000])
    assert dataset_picture(shop, tmp_path / "shop.svg") == tmp_path / "shop.svg"
    found = words(tmp_path / "shop.svg")
    for text in (
        "corner $hop$ &lt;b&gt;: 3 users, 4 items, 7 interactions, 41.67% sparse",
        "train: 4 interactions (57.1%), 3 users, 2 items",
        "val: 1 interactions (14.3%), 1 users, 1 items",
        "test: 2 interactions (28.6%), 2 users, 2 items",
        "users",
        "items (2 of 4 with none)",
        "image, 2,000-d: 1 items without (25.0%)",
        "interactions per 19 days",
        "2012",
    ):
        assert text in found
    assert list(tmp_path.iterdir()) == [tmp_path / "shop.svg"]


def test_panels_of_what_is_not_known_are_left_out(shop: HeteroData, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    del shop.name
    found = words(dataset_picture(shop, tmp_path / "shop.svg"))
    assert {"No item features", "dataset: 3 users, 4 items, 7 interactions, 41.67% sparse"} <= set(found)
    assert not {"Times", "Missing features"} & set(found)


def test_the_same_data_gives_the_same_bytes(shop: HeteroData, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for suffix in ("svg", "png"):
        one, two = (dataset_picture(shop, tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
        assert one == two
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_narrow_range_of_degrees_has_numbers_too(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 12, 12
    data[RATES].edge_index = torch.tensor(
        [(user, (user * user + step) % 12) for user in range(12) for step in range(3)]
    ).T
    assert "3" in words(dataset_picture(data, tmp_path / "narrow.svg"))


@pytest.mark.parametrize(
    "times",
    [[5, 5, 5, 5], [0, 1, 2, 3], [-1e18, 0, 1, 1e18], [1.4e12] * 4, [0.5, 0.5, 0.5, 0.75]],
)
def test_times_of_any_kind_can_be_drawn(times: list[float], shop: HeteroData, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shop[RATES].time = torch.tensor(times, dtype=torch.float64)
    shop[RATES].val_time = torch.tensor([times[0]], dtype=torch.float64)
    shop[RATES].test_time = torch.empty(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = words(dataset_picture(shop, tmp_path / "shop.svg"))
    assert "Times" in found
    assert ("Unix time in seconds" in found) == (max(times) > 1e12)


def test_one_interaction_and_no_evaluation(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 1, 1
    data[RATES].edge_index = torch.tensor([[0], [0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = words(dataset_picture(data, tmp_path / "one.svg"))
    assert "test: 0 interactions (0.0%), 0 users, 0 items" in found


def test_pyplot_is_left_alone(shop: HeteroData, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    dataset_picture(shop, tmp_path / "shop.png")
    assert dict(matplotlib.rcParams) == before


def test_pictures_that_cannot_be(shop: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"shop\.gif: a picture of type '\.gif', expected \.png or \.svg"):
        dataset_picture(shop, tmp_path / "shop.gif")
    with pytest.raises(ConfigError, match=r"no folder .*none, expected one that exists"):
        dataset_picture(shop, tmp_path / "none" / "shop.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install .bm3-pyg\[report\]"):
        dataset_picture(shop, tmp_path / "shop.png")
