from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from bm3_pyg.data import describe, fingerprint, load_dataset
from bm3_pyg.data.catalogue import prepare_catalogue
from bm3_pyg.data.prepared import read_card
from bm3_pyg.data.steps import text_features
from bm3_pyg.errors import ConfigError, DataError


def encode(texts: Sequence[str], encoder: str) -> NDArray[np.float32]:
    """A stand-in of two numbers a text."""
    return np.array([[len(text), sum(text.encode())] for text in texts], dtype=np.float32)


@pytest.fixture(autouse=True)
def _encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bm3_pyg.data.steps.encode_texts", encode)


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, Any]:
    """Arguments for the clicks of 30 users and a list of 15 items, of which 12 occur."""
    rng = np.random.default_rng(0)
    clicks = {
        "user": [f"u{number}" for number in rng.integers(30, size=200)],
        "item": [f"i{number}" for number in (12 * rng.random(200) ** 3).astype(int)],
        "when": rng.integers(1000, size=200),
    }
    pl.DataFrame(clicks).write_parquet(tmp_path / "clicks.parquet")
    items = {
        "item": [f"i{number}" for number in range(15)][::-1],
        "title": [None if number == 3 else f"Title\n {number}" for number in range(15)][::-1],
        "price": [None if number == 3 else number / 2 for number in range(15)][::-1],
    }
    pl.DataFrame(items).write_csv(tmp_path / "items.csv")
    return {
        "interactions": tmp_path / "clicks.parquet",
        "items": tmp_path / "items.csv",
        "out": tmp_path / "out" / "shop",
    }


def test_it_is_what_load_dataset_gives_and_texts(tmp_path: Path, shop: dict[str, Any]) -> None:
    folder = prepare_catalogue(**shop, text_columns=["title", "price"], time="when", split="time")
    assert folder == shop["out"]
    data = load_dataset(folder)
    plain = load_dataset(shop["interactions"], items=shop["items"], time="when", split="time")
    assert data.name == "shop"
    assert data["item"].raw_id.tolist() == plain["item"].raw_id.tolist()
    expected = encode([f"Title {number} {number / 2}" for number in range(15)][::-1], "")
    there = ~data["item"].text_missing.numpy()
    assert (~there).nonzero()[0].tolist() == [11]
    np.testing.assert_array_equal(data["item"].text.numpy()[there], expected[there])
    np.testing.assert_allclose(data["item"].text.numpy()[11], expected[there].mean(axis=0))
    assert "text: 1 of 15 items have no feature and were given the mean of the others" in data.notes
    card = read_card(folder)
    assert set(card["sources"]) == {"clicks.parquet", "items.csv"}
    assert card["settings"]["text_columns"] == ["title", "price"]
    del data["item"].text
    assert fingerprint(data) == fingerprint(plain)


def test_sources_of_one_name_are_told_apart(tmp_path: Path, shop: dict[str, Any]) -> None:
    (tmp_path / "shelf").mkdir()
    pl.read_csv(shop["items"]).write_parquet(tmp_path / "shelf" / "clicks.parquet")
    shop["items"] = tmp_path / "shelf" / "clicks.parquet"
    sources = read_card(prepare_catalogue(**shop))["sources"]
    assert {name: file["bytes"] for name, file in sources.items()} == {
        "clicks.parquet": shop["interactions"].stat().st_size,
        "shelf/clicks.parquet": shop["items"].stat().st_size,
    }


def test_features_of_every_kind_follow_the_core(tmp_path: Path, shop: dict[str, Any]) -> None:
    np.save(tmp_path / "array.npy", [[number, 1] for number in range(15)][::-1])
    pl.DataFrame({"item": [f"i{number}" for number in range(15)], "x": range(15)}).write_csv(tmp_path / "table.csv")
    (tmp_path / "stories").mkdir()
    for number in range(15):
        (tmp_path / "stories" / f"i{number}.txt").write_text("x" * (number + 1))
    features = {"image": tmp_path / "array.npy", "price": tmp_path / "table.csv", "story": tmp_path / "stories"}
    folder = prepare_catalogue(**shop, core=4, features=features, text_columns=["title"])
    data = load_dataset(folder)
    numbers = [int(item[1:]) for item in data["item"].raw_id]
    assert len(numbers) < 12
    assert numbers == sorted(numbers, reverse=True)
    assert data["item"].image[:, 0].tolist() == numbers
    assert data["item"].price[:, 0].tolist() == numbers
    assert data["item"].story[:, 0].tolist() == [number + 1 for number in numbers]
    assert describe(data)["cold_items"] == 0
    assert set(describe(data)["modalities"]) == {"image", "price", "story", "text"}


def test_interactions_alone_will_do(shop: dict[str, Any]) -> None:
    data = load_dataset(prepare_catalogue(**{**shop, "items": None}))
    assert fingerprint(data) == fingerprint(load_dataset(shop["interactions"]))


def test_prepared_once_it_is_left_and_anything_else_is_refused(
    tmp_path: Path, shop: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "stories").mkdir()
    for number in range(15):
        (tmp_path / "stories" / f"i{number}.txt").write_text("once")
    options = {**shop, "text_columns": ["title"], "features": {"story": tmp_path / "stories"}}
    before = (prepare_catalogue(**options) / "card.json").stat().st_mtime_ns
    with caplog.at_level(logging.INFO, logger="bm3_pyg.prepare"):
        assert (prepare_catalogue(**options) / "card.json").stat().st_mtime_ns == before
    assert "was prepared before" in caplog.text
    with pytest.raises(DataError, match="was prepared with split 'random', not 'leave-one-out'"):
        prepare_catalogue(**options, split="leave-one-out")
    (tmp_path / "stories" / "i3.txt").write_text("upon a time")
    with pytest.raises(DataError, match="was prepared with folders "):
        prepare_catalogue(**options)
    (tmp_path / "stories" / "i3.txt").write_text("once")
    shop["items"].write_text(shop["items"].read_text() + "i99,new,1\n")
    with pytest.raises(DataError, match=r"was prepared from another items\.csv than"):
        prepare_catalogue(**options)


def test_nothing_is_left_when_encoding_fails(shop: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(texts: Sequence[str], encoder: str) -> NDArray[np.float32]:
        raise ConfigError("no such encoder")

    monkeypatch.setattr("bm3_pyg.data.steps.encode_texts", fail)
    with pytest.raises(ConfigError, match="no such encoder"):
        prepare_catalogue(**shop, text_columns=["title"])
    assert not shop["out"].parent.exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"text_columns": ["name"]}, DataError, r"items\.csv: no column 'name'; found item, title, price"),
        ({"text_columns": ["title"], "items": None}, ConfigError, "text_columns: items is None, expected a .csv"),
        (
            {"text_columns": ["title"], "items": "x.txt"},
            ConfigError,
            "text_columns: items is /.*x.txt, expected a .csv",
        ),
        ({"text_columns": ["title"], "features": {"text": "x.npy"}}, ConfigError, "'text' is there already"),
        ({"text_columns": ["title"], "text_encoder": None}, ConfigError, "text_encoder: got none, expected one for"),
        ({"features": {"story": "."}, "text_encoder": None}, ConfigError, "text_encoder: got none, expected one for"),
        ({"features": {"two words": "x.npy"}}, DataError, "'two words' cannot name a modality"),
        ({"features": {"image": "gone.npy"}}, DataError, r"gone\.npy: no such file"),
        ({"split": "thyme"}, ConfigError, "split: got 'thyme'"),
        ({"core": 90}, DataError, "the 90-core"),
        ({"user": "who"}, DataError, "no column 'who'"),
    ],
)
def test_what_is_refused(shop: dict[str, Any], options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        prepare_catalogue(**{**shop, **options})
    assert "\n" not in str(caught.value)
    assert not shop["out"].exists()


def test_texts_without_any(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="story: none of the 2 items has a text"):
        text_features(["", " \n"], "story", "")


def test_texts_that_are_all_there() -> None:
    values, missing, notes = text_features(["a", "bc", "a"], "text", "")
    np.testing.assert_array_equal(values, encode(["a", "bc", "a"], ""))
    assert not missing.any()
    assert notes == []
