"""``bm3 data``."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bm3_pyg.data.amazon.release import PUBLISHED

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., None]


def test_describe(bm3: Run, shop: Path) -> None:
    _, out, _ = bm3("data", "describe", shop, "--json")
    card = json.loads(out)
    assert (card["users"], card["items"], card["interactions"]) == (12, 8, 72)
    assert card["splits"] == {"train": 48, "val": 12, "test": 12}
    assert card["modalities"] == {"image": {"dim": 5, "missing": 0}}
    code, out, _ = bm3("data", "describe", shop)
    assert code == 0
    assert "interactions" in out
    assert "shop.inter" in out


def test_a_picture_beside_the_text(bm3: Run, shop: Path) -> None:
    pytest.importorskip("matplotlib")
    code, out, _ = bm3("data", "describe", shop, "--picture", "shop.png")
    assert code == 0
    assert "fingerprint" in out
    assert Path("shop.png").read_bytes().startswith(b"\x89PNG")


def test_prepare_ones_own_catalogue_and_train_on_it(bm3: Run, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(f"u{u}", f"i{(u + j) % 8}", j) for u in range(12) for j in range(6)]
    pl.DataFrame(rows, schema=["who", "item", "at"], orient="row").write_csv("clicks.csv")
    np.save("image.npy", np.random.default_rng(0).standard_normal((8, 5), dtype=np.float32))
    columns = ["--user-column", "who", "--time-column", "at", "--split", "leave-one-out", "--core", "3"]
    prepare = ["data", "prepare", "--interactions", "clicks.csv", "--features", "image=image.npy", *columns]
    code, out, err = bm3(*prepare, "--out", "shop")
    assert code == 0, err
    assert out == "shop\n"
    card = json.loads(bm3("data", "describe", "shop", "--json")[1])
    assert (card["users"], card["items"]) == (12, 8)
    assert card["splits"] == {"train": 48, "val": 12, "test": 12}
    assert card["modalities"] == {"image": {"dim": 5, "missing": 0}}
    assert bm3("train", "shop", "--set", "max_epochs=1")[0] == 0
    bm3(*prepare, "--out", "shop")
    assert "prepared before" in caplog.text


def test_prepare_from_an_archive(bm3: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "baby", (12, 8, 72))
    with zipfile.ZipFile("baby.zip", "w") as archive:
        for file in shop.iterdir():
            archive.write(file, f"baby/{file.name}")
    code, out, err = bm3("data", "prepare", "baby", "--from", "baby.zip", "--root", "data")
    assert code == 0, err
    assert json.loads(bm3("data", "describe", out.strip(), "--json")[1])["interactions"] == 72
    with zipfile.ZipFile("evil.zip", "w") as archive:
        archive.writestr("../evil.inter", "x")
    code, out, err = bm3("data", "prepare", "sports", "--from", "evil.zip", "--root", "data")
    assert code == 2
    assert "../evil.inter" in err
    assert not Path("data/sports").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either a NAME"),
        (["baby", "--interactions", "clicks.csv"], "expected either a NAME"),
        (["baby", "--items", "items.csv"], "--items: is for your own catalogue"),
        (["--interactions", "clicks.csv", "--offline", "--out", "x"], "--offline: is for Amazon data"),
        (["--interactions", "clicks.csv"], "expected --out"),
        (["--interactions", "clicks.csv", "--out", "x"], "clicks.csv: no such file"),
        (["--interactions", "c.csv", "--out", "x", "--features", "t=.", "--text-encoder", "none"], "text_encoder: got"),
        (["baby", "--from", "nowhere"], "nowhere: no such folder"),
        (["baby", "--from", "."], "reviews_Baby_5.json.gz"),
        (["baby", "--offline", "--text-encoder", "none", "--no-images"], "reviews_Baby_5.json.gz"),
        (["baby", "--url", "x=y"], "x"),
        (["baby", "--split", "label"], "label"),
        (["toys"], "toys"),
    ],
)
def test_wrong_preparations(bm3: Run, assert_refused: Refused, arguments: list[str], message: str) -> None:
    assert_refused(bm3("data", "prepare", *arguments), message)
