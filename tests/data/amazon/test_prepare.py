from __future__ import annotations

import ast
import gzip
import json
import logging
import shutil
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from raw_amazon import RawFiles, Size, write_raw

from bm3_pyg.data import describe, edges_of, fingerprint, load_dataset
from bm3_pyg.data.amazon import prepare_amazon
from bm3_pyg.data.amazon.release import PUBLISHED
from bm3_pyg.data.edges import interactions_of
from bm3_pyg.data.prepared import read_card
from bm3_pyg.errors import ConfigError, DataError

Row = tuple[str, str, float, int]


def encode(texts: Sequence[str], encoder: str) -> NDArray[np.float32]:
    """A stand-in of three numbers a text."""
    return np.array([[len(text), text.count("e"), sum(text.encode())] for text in texts], dtype=np.float32)


@pytest.fixture(autouse=True)
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts that went to the encoder."""
    seen: list[str] = []

    def recorded(texts: Sequence[str], encoder: str) -> NDArray[np.float32]:
        seen.extend(texts)
        return encode(texts, encoder)

    monkeypatch.setattr("bm3_pyg.data.steps.encode_texts", recorded)
    monkeypatch.setattr("bm3_pyg.data.amazon.prepare.find_model", Path)
    return seen


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawFiles:
    """About 1% of electronics."""
    return write_raw(
        tmp_path_factory.mktemp("raw"),
        "Electronics",
        Size(users=1924, items=630, interactions=16_892, ratings=40_000, meta_items=700),
    )


@pytest.fixture
def small(tmp_path: Path) -> RawFiles:
    (tmp_path / "raw").mkdir()
    size = Size(users=40, items=20, interactions=300, ratings=600, meta_items=30)
    return write_raw(tmp_path / "raw", "Baby", size, seed=1)


def folder_with(tmp_path: Path, raw: RawFiles, *kinds: str) -> Path:
    """A folder that holds these of the raw files."""
    folder = tmp_path / "given"
    folder.mkdir(exist_ok=True)
    for kind in kinds:
        path: Path = getattr(raw, kind)
        (folder / path.name).symlink_to(path)
    return folder


def read_rows(path: Path) -> list[Row]:
    if path.suffix == ".csv":
        lines = [line.split(",") for line in path.read_text().splitlines()]
        return [(user, item, float(rating), int(time)) for user, item, rating, time in lines]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return [(one["reviewerID"], one["asin"], one["overall"], one["unixReviewTime"]) for one in records]


def naive_graph(rows: list[Row], k: int) -> list[Row]:
    """Rows of the k-core in file order, of a repeated (user, item) the earliest."""
    best: dict[tuple[str, str], int] = {}
    for number, (user, item, _, time) in enumerate(rows):
        if (user, item) not in best or time < rows[best[user, item]][3]:
            best[user, item] = number
    rows = [rows[number] for number in sorted(best.values())]
    while True:
        users, items = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
        left = [row for row in rows if users[row[0]] >= k and items[row[1]] >= k]
        if len(left) == len(rows):
            return rows
        rows = left


def naive_texts(path: Path) -> dict[str, str]:
    texts = {}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            one = ast.literal_eval(line)
            paths = one.get("categories") or [[]]
            parts = [one.get("title"), one.get("brand"), " ".join(paths[0]), one.get("description")]
            texts[one["asin"]] = " ".join(part or "" for part in parts).replace("\n", " ").strip()
    return texts


def naive_images(path: Path) -> dict[str, list[float]]:
    content = path.read_bytes()
    found: dict[str, list[float]] = {}
    for start in range(0, len(content), 10 + 4 * 4096):
        asin = content[start : start + 10].decode("ascii")
        found.setdefault(asin, list(struct.unpack_from("<4096f", content, start + 10)))
    return found


def naive_counts(n: int) -> tuple[int, int]:
    held = 2 if n < 10 else int(0.2 * n)
    return held // 2, held - held // 2


@pytest.mark.parametrize("kind", ["reviews", "ratings"])
def test_the_graph_is_that_of_the_slow_twin(tmp_path: Path, raw: RawFiles, encoded: list[str], kind: str) -> None:
    source = folder_with(tmp_path, raw, kind, "meta", "images")
    data = load_dataset(prepare_amazon("electronics", tmp_path, source=source, seed=2))
    expected = naive_graph(read_rows(getattr(raw, kind)), 5)
    assert len(expected) == 16_892

    users, items = data["user"].raw_id.tolist(), data["item"].raw_id.tolist()
    assert users == list(dict.fromkeys(row[0] for row in expected))
    assert items == list(dict.fromkeys(row[1] for row in expected))
    rows = interactions_of(data)
    assert rows.time is not None
    assert rows.rating is not None
    found = zip(rows.users.tolist(), rows.items.tolist(), rows.rating.tolist(), rows.time.tolist(), strict=True)
    assert sorted((users[user], items[item], rating, time) for user, item, rating, time in found) == sorted(expected)

    split: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for user, code in zip(rows.users.tolist(), rows.split.tolist(), strict=True):
        split[users[user]][code] += 1
    for user, n in Counter(row[0] for row in expected).items():
        assert tuple(split[user][1:]) == naive_counts(n)

    known = {item: text for item, text in naive_texts(raw.meta).items() if text}
    assert encoded == [known[item] for item in items if item in known]
    has_text = [item in known for item in items]
    assert data["item"].text_missing.tolist() == [not there for there in has_text]
    values = encode(encoded, "")
    np.testing.assert_array_equal(data["item"].text.numpy()[has_text], values)
    mean = values.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(
        data["item"].text.numpy()[~np.array(has_text)], np.tile(mean, (has_text.count(False), 1))
    )

    images = naive_images(raw.images)
    present = np.array([item in images for item in items])
    assert 0 < present.sum() < len(items)
    assert data["item"].image_missing.tolist() == (~present).tolist()
    pictured = np.array([images[item] for item in items if item in images])
    np.testing.assert_array_equal(data["item"].image.numpy()[present], pictured.astype(np.float32))
    for row in data["item"].image.numpy()[~present]:
        np.testing.assert_allclose(row, pictured.mean(axis=0), rtol=1e-6)


def test_published_baby_comes_back_from_raw_ratings(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    shared = pl.read_csv(shared_data("baby") / "baby.inter", separator="\t")
    rng = np.random.default_rng(0)
    rating = rng.integers(1, 6, size=shared.height).astype(float)
    core = shared.select(
        pl.format("U{}", "userID").alias("user"),
        pl.format("{}", pl.col("itemID").cast(pl.String).str.zfill(10)).alias("item"),
        pl.Series("rating", rating),
        pl.Series("time", 86_400 * rng.integers(10_000, 16_000, size=shared.height)),
    )
    around = pl.DataFrame(
        {
            "user": [f"N{number // 4}" for number in range(8_000)],  # four ratings each
            "item": [f"{number % 7_050:010d}" for number in range(8_000)],
            "rating": 5.0,
            "time": np.full(8_000, 1_300_000_000),
        }
    )
    again = core.sample(500, seed=1).with_columns(pl.col("time") + 86_400)
    everything = pl.concat([core, core.sample(300, seed=2), again, around]).sample(fraction=1, shuffle=True, seed=3)
    everything.write_csv(tmp_path / "ratings_Baby.csv", include_header=False)

    folder = prepare_amazon("baby", tmp_path / "data", source=tmp_path, text_encoder=None, images=False)
    assert folder == tmp_path / "data" / "baby"
    data = load_dataset(folder)
    told = describe(data)
    assert (told["users"], told["items"], told["interactions"]) == (19_445, 7_050, 160_792)
    users = np.array([int(one[1:]) for one in data["user"].raw_id])
    for code, split in enumerate(("train", "val", "test")):
        ours = np.bincount(users[edges_of(data, split)[0].numpy()], minlength=19_445)
        theirs = np.bincount(shared["userID"].filter(shared["x_label"] == code).to_numpy(), minlength=19_445)
        np.testing.assert_array_equal(ours, theirs)
    steps = read_card(folder)["steps"]
    assert [step["dropped"] for step in steps] == [0, 300, 500, 8_000]
    assert not any("the published 5-core has" in note for note in read_card(folder)["notes"])
    earliest = {row[:2]: row[3] for row in core.iter_rows()}
    rows = interactions_of(data)
    assert rows.time is not None
    ids = data["user"].raw_id[rows.users], data["item"].raw_id[rows.items]
    assert {(str(u), str(i)): t for u, i, t in zip(*ids, rows.time, strict=True)} == earliest


def test_the_card(tmp_path: Path, small: RawFiles) -> None:
    folder = prepare_amazon("baby", tmp_path)
    data, card = load_dataset(folder), read_card(folder)
    assert set(card["sources"]) == {small.reviews.name, small.meta.name, small.images.name}
    assert card["fingerprint"] == fingerprint(data)
    assert card["settings"]["core"] == 5
    assert card["modalities"]["image"]["missing"] == int(data["item"].image_missing.sum()) > 0
    assert set(data.files) <= set(card["files"])
    assert all(card["files"][name]["sha256"] == digest for name, digest in data.files.items())
    text = (folder / "README.md").read_text()
    for part in ("SIGIR 2015", "WWW 2016", "Licence", "without a seed", "Published counts", card["fingerprint"]):
        assert part in text


def test_one_epoch_on_a_prepared_folder(tmp_path: Path, small: RawFiles) -> None:
    from bm3_pyg import BM3, TrainConfig, fit

    data = load_dataset(prepare_amazon("baby", tmp_path))
    result = fit(BM3.from_data(data, embedding_dim=8), data, TrainConfig(max_epochs=1, batch_size=64))
    assert result.test is not None
    assert 0 <= result.test["recall@20"] <= 1


@pytest.mark.parametrize("rule", ["random", "leave-one-out", "time", "global-time", "cold-items"])
def test_every_split_has_its_own_folder(tmp_path: Path, small: RawFiles, rule: str) -> None:
    folder = prepare_amazon("baby", tmp_path, split=rule, core=6, seed=1, text_encoder=None, images=False)
    assert folder.name == "-".join(["baby", *([rule] if rule != "random" else []), "seed1", "core6"])
    told = describe(load_dataset(folder))
    assert min(told["splits"].values()) > 0
    assert not any(told["leaks"].values())
    assert told["degrees"]["item"]["max"] > 5


def test_less_than_a_5_core_needs_the_ratings(tmp_path: Path, small: RawFiles) -> None:
    everything = load_dataset(prepare_amazon("baby", tmp_path, core=None, text_encoder=None, images=False))
    assert describe(everything)["interactions"] == small.everything.unique(["user", "item"]).height
    only = folder_with(tmp_path, small, "reviews")
    small.ratings.unlink()
    with pytest.raises(DataError, match=r"no ratings_Baby\.csv, .* a 5-core already, which serves --core 5 and above$"):
        prepare_amazon("baby", tmp_path, source=only, core=2, text_encoder=None, images=False)


def test_a_finished_folder_is_reused_without_its_sources(
    tmp_path: Path, small: RawFiles, encoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepare_amazon("baby", tmp_path)
    before, texts = (folder / "card.json").stat(), len(encoded)
    small.images.unlink()
    with caplog.at_level(logging.INFO, logger="bm3_pyg.prepare"):
        assert prepare_amazon("baby", tmp_path, offline=True) == folder
    assert "was prepared before" in caplog.text
    assert (folder / "card.json").stat().st_mtime_ns == before.st_mtime_ns
    assert len(encoded) == texts


def test_a_folder_of_other_settings_or_sources_is_refused(tmp_path: Path, small: RawFiles) -> None:
    prepare_amazon("baby", tmp_path, text_encoder=None)
    with pytest.raises(DataError, match=r"baby: was prepared with text_encoder None, not 'x'; remove it or choose"):
        prepare_amazon("baby", tmp_path, text_encoder="x")
    small.images.write_bytes(small.images.read_bytes()[: 10 * 16_394])
    with pytest.raises(DataError, match=r"was prepared from another image_features_Baby\.b than .*; remove it"):
        prepare_amazon("baby", tmp_path, text_encoder=None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(DataError, match=r"mine: exists but has no card\.json"):
        prepare_amazon("baby", tmp_path, out=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize("where", ["bm3_pyg.data.amazon.prepare.read_images", "bm3_pyg.data.prepared.card_text"])
def test_stopped_in_the_middle_it_leaves_nothing(
    tmp_path: Path, small: RawFiles, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(where, stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_amazon("baby", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    assert prepare_amazon("baby", tmp_path).is_dir()


@pytest.fixture
def tiny_electronics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Electronics was published with four interactions."""
    monkeypatch.setitem(PUBLISHED, "electronics", (2, 2, 4))


@pytest.mark.usefixtures("tiny_electronics")
def test_a_folder_of_mmrec_is_used_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "mmrec"
    source.mkdir()
    (source / "elec.inter").write_text("userID\titemID\tx_label\n0\t1\t0\n0\t0\t1\n1\t1\t2\n1\t0\t0\n")
    np.save(source / "image_feat.npy", np.eye(2))
    folder = prepare_amazon("electronics", tmp_path, source=source)
    data = load_dataset(folder)
    assert fingerprint(data) == fingerprint(load_dataset(source))
    assert data.name == "electronics"
    assert read_card(folder)["settings"] == {"dataset": "electronics", "split": "as in elec.inter"}
    text = (folder / "README.md").read_text()
    assert "as they are" in text
    assert "This is not" not in text
    assert prepare_amazon("electronics", tmp_path, source=source) == folder
    with pytest.raises(ConfigError, match=r"its \.inter file is split already, expected no split, seed and core"):
        prepare_amazon("electronics", tmp_path, source=source, seed=1)
    with pytest.raises(ConfigError, match=r"images: got False, but .*mmrec is MMRec's"):
        prepare_amazon("electronics", tmp_path, source=source, images=False)


def test_an_inter_file_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "mmrec"
    source.mkdir()
    text = "userID\titemID\tx_label\n0\t1\t0\n0\t0\t1\n1\t1\t2\n1\t0\t0\n"
    cases = [
        ("ml100k", "baby", "holds 2 users, 2 items, 4 interactions, expected baby with 19,445 users, 7,050 items"),
        ("baby", "baby", "holds 2 users, 2 items, 4 interactions, expected baby"),
        ("sports", "baby", "is called as sports's, expected baby"),
        ("elec", "sports", "is called as electronics's, expected sports"),
        ("Baby", "electronics", "is called as baby's, expected electronics"),
    ]
    for stem, name, message in cases:
        (source / f"{stem}.inter").write_text(text)
        with pytest.raises(DataError, match=rf"{stem}\.inter: {message}"):
            prepare_amazon(name, tmp_path / "root", source=source)
        (source / f"{stem}.inter").unlink()
    assert not (tmp_path / "root").exists()


def test_real_folders_under_the_wrong_name(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    with pytest.raises(DataError, match=r"ml100k\.inter: holds 943 users, .*, expected baby"):
        prepare_amazon("baby", tmp_path / "root", source=shared_data("ml100k"))
    (tmp_path / "sports").mkdir()
    shutil.copyfile(shared_data("sports") / "sports.inter", tmp_path / "sports" / "baby.inter")
    with pytest.raises(DataError, match="296,337 interactions, as does sports, expected baby"):
        prepare_amazon("baby", tmp_path / "root", source=tmp_path / "sports")
    assert not (tmp_path / "root").exists()
    folder = prepare_amazon("sports", tmp_path / "root", source=shared_data("sports"))
    assert "This is not" not in (folder / "README.md").read_text()


@pytest.mark.parametrize("core", [5, None, 6])
def test_raw_files_of_other_counts_are_not_called_the_published_dataset(
    tmp_path: Path, small: RawFiles, core: int | None
) -> None:
    folder = prepare_amazon("baby", tmp_path, core=core)
    text, (note,) = (
        (folder / "README.md").read_text(),
        [
            note
            for note in read_card(folder)["notes"]
            if "the published 5-core has" in note or "the release's has" in note
        ],
    )
    assert text.startswith(f"# {folder.name}\n\n**This is not the published dataset.**")
    assert note in text.split("## Known issues")[0]


def test_raw_files_of_another_dataset_are_refused(
    tmp_path: Path, small: RawFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_amazon("baby", tmp_path)
    found = read_card(tmp_path / "baby")
    monkeypatch.setitem(PUBLISHED, "sports", tuple(found[key] for key in ("users", "items", "interactions")))
    with pytest.raises(DataError, match=r"baby: the files hold .*, which are sports's; prepare sports from them"):
        prepare_amazon("baby", tmp_path, seed=1)
    with pytest.raises(DataError, match=r"reviews_Baby_5\.json\.gz: \d+ interactions, which are sports's"):
        prepare_amazon("baby", tmp_path, core=6)
    monkeypatch.setitem(PUBLISHED, "baby", PUBLISHED["sports"])
    assert "This is not" not in (prepare_amazon("baby", tmp_path, core=6) / "README.md").read_text()


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ((), r"given: no reviews_Baby_5\.json\.gz, expected it there \(it is at https://.*\); without --from it is"),
        (("ratings",), r"no meta_Baby\.json\.gz, expected it there .*; --text-encoder none goes without texts$"),
        (("reviews", "meta"), r"no image_features_Baby\.b, expected it there .*; --no-images goes without them$"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, small: RawFiles, kinds: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        prepare_amazon("baby", tmp_path / "root", source=folder_with(tmp_path, small, *kinds))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "root").exists()


def test_a_broken_file_is_found_before_texts_are_encoded(tmp_path: Path, small: RawFiles, encoded: list[str]) -> None:
    small.images.write_bytes(small.images.read_bytes()[:-1])
    with pytest.raises(DataError, match="extra bytes"):
        prepare_amazon("baby", tmp_path)
    assert encoded == []


def test_features_of_other_items(tmp_path: Path, small: RawFiles) -> None:
    small.images.write_bytes(b"B000NOBODY" + bytes(4 * 4096))
    with pytest.raises(DataError, match=r"Baby\.b: holds none of the 20 items' features, expected some$"):
        prepare_amazon("baby", tmp_path, text_encoder=None)
    (tmp_path / "raw" / "downloads.json").unlink()
    ids = small.core["item"].unique().to_list()
    small.images.write_bytes(b"".join(item.encode() + np.full(4096, np.nan, "<f4").tobytes() for item in ids))
    with pytest.raises(DataError, match=r"holds none of .* \(image_features_Baby\.b: 20 records hold NaN or infinity"):
        prepare_amazon("baby", tmp_path, text_encoder=None)
    small.images.unlink()
    with gzip.open(small.meta, "wt") as file:
        file.write("{'asin': 'B000NOBODY', 'title': 'x'}\n")
    with pytest.raises(DataError, match=r"text: none of the 20 items has a text"):
        prepare_amazon("baby", tmp_path, images=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "babe"}, "name: got 'babe', did you mean 'baby'"),
        ({"split": "label"}, "split: got 'label', expected one of cold-items"),
        ({"seed": -1}, "seed: got -1"),
        ({"core": 0}, "core: got 0"),
        ({"urls": {"meta_Toys.json.gz": "http://x"}}, r"urls: got 'meta_Toys\.json\.gz', "),
    ],
)
def test_options_that_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_amazon(**{"name": "baby", "root": tmp_path, "offline": True, **options})


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such folder, expected raw files in it"):
        prepare_amazon("baby", tmp_path, source=tmp_path / "gone")


def test_offline_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"offline.*reviews_Baby_5\.json\.gz"):
        prepare_amazon("baby", tmp_path, offline=True)
    assert not (tmp_path / "baby").exists()


def test_features_are_tensors_of_float32(tmp_path: Path, small: RawFiles) -> None:
    items = load_dataset(prepare_amazon("baby", tmp_path))["item"]
    assert items.image.dtype == items.text.dtype == torch.float32
    assert items.image.shape == (20, 4096)
