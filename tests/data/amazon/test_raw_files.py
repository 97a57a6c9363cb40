"""Which raw files are read and where they come from; from archives what is needed is taken, and gone at the end."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from raw_amazon import RawFiles, Size, write_raw

from bm3_pyg.data.amazon import prepare_amazon, raw_files
from bm3_pyg.data.amazon.raw_files import Origin, at_hand, gather, wanted
from bm3_pyg.data.amazon.release import CATEGORIES, PUBLISHED, addresses, category_of
from bm3_pyg.data.download_folder import Remote
from bm3_pyg.data.prepared import read_card
from bm3_pyg.errors import ConfigError, DataError

REVIEWS, RATINGS, META, IMAGES = addresses("baby")
INTER = b"userID\titemID\tx_label\n0\t1\t0\n0\t0\t1\n1\t1\t2\n1\t0\t0\n"


@pytest.mark.parametrize("name", CATEGORIES)
def test_four_files_each(name: str) -> None:
    files = addresses(name)
    assert len(files) == 4
    assert all(CATEGORIES[name] in file and url.endswith(f"/{file}") for file, url in files.items())


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="name: got 'sport', did you mean 'sports'"):
        category_of("sport")


def test_the_first_folder_that_has_a_file_gives_it(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, files in ((one, [META, "other.csv"]), (two, [META, RATINGS])):
        folder.mkdir()
        for file in files:
            (folder / file).touch()
    assert at_hand("baby", [one, two, tmp_path / "none"]) == {META: one / META, RATINGS: two / RATINGS}


@pytest.mark.parametrize(
    ("core", "there", "expected"),
    [
        (5, [], REVIEWS),
        (5, [RATINGS], RATINGS),
        (5, [REVIEWS, RATINGS], REVIEWS),
        (10, [REVIEWS, RATINGS], REVIEWS),
        (4, [REVIEWS, RATINGS], RATINGS),
        (4, [REVIEWS], RATINGS),
        (None, [REVIEWS], RATINGS),
    ],
)
def test_which_interactions(core: int | None, there: list[str], expected: str) -> None:
    places = {file: Path(file) for file in there}
    assert wanted("baby", core, False, False, places) == [expected]
    assert wanted("baby", core, True, False, places) == [expected, META]
    assert wanted("baby", core, True, True, places) == [expected, META, IMAGES]


def test_what_is_not_given_is_downloaded_from_where_one_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def download(files: list[Remote], folder: Path, **options: Any) -> list[Path]:
        asked.append((files, folder, options))
        return [folder / file.name for file in files]

    monkeypatch.setattr("bm3_pyg.data.amazon.raw_files.download", download)
    urls = {IMAGES: "http://mirror/baby.b"}
    paths = gather("baby", [RATINGS, IMAGES], Origin(tmp_path, urls=urls, offline=True))
    assert list(paths.by_name().values()) == [tmp_path / "raw" / RATINGS, tmp_path / "raw" / IMAGES]
    assert paths.meta is None
    files, folder, options = asked[0]
    assert [(file.name, file.url) for file in files] == [
        (RATINGS, addresses("baby")[RATINGS]),
        (IMAGES, "http://mirror/baby.b"),
    ]
    assert folder == tmp_path / "raw"
    assert options == {"offline": True, "force": False}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawFiles:
    folder = tmp_path_factory.mktemp("raw")
    return write_raw(folder, "Baby", Size(users=40, items=20, interactions=300, ratings=600, meta_items=30), seed=1)


def packed(path: Path, files: dict[str, bytes | Path]) -> Path:
    bodies = {name: body if isinstance(body, bytes) else body.read_bytes() for name, body in files.items()}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, body in bodies.items():
                archive.writestr(name, body)
    else:
        with tarfile.open(path, "w:gz") as tar:
            for name, body in bodies.items():
                info = tarfile.TarInfo(name)
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    return path


def prepared(archive: Path, root: Path, **options: Any) -> Path:
    return prepare_amazon("baby", root, source=archive, text_encoder=None, **options)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_raw_files_in_several_folders_among_others(
    tmp_path: Path, raw: RawFiles, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    files: dict[str, bytes | Path] = {
        f"amazon/reviews/{raw.reviews.name}": raw.reviews,
        f"amazon/images/{raw.images.name}": raw.images,
        "amazon/reviews/reviews_Sports_and_Outdoors_5.json.gz": b"?",
        "photos/../../evil.png": b"?" * 1000,
        "README": b"",
    }
    archive, root = packed(tmp_path / f"all{suffix}", files), tmp_path / "root"
    with caplog.at_level(logging.INFO, "bm3_pyg.prepare"):
        folder = prepared(archive, root)
    assert folder == root / "baby"
    assert set(read_card(folder)["sources"]) == {raw.reviews.name, raw.images.name}
    assert f"{archive}: 3 other files in it stay packed" in caplog.text
    assert [path.name for path in root.iterdir()] == ["baby"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [archive.name, "root"]
    before = (folder / "card.json").read_bytes()
    assert prepared(archive, root) == folder
    assert (folder / "card.json").read_bytes() == before


def test_of_several_datasets_the_one_of_the_name_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "baby", (2, 2, 4))
    files: dict[str, bytes | Path] = {"data/baby/baby.inter": INTER, "data/sports/sports.inter": b"no table"}
    assert read_card(prepared(packed(tmp_path / "a.zip", files), tmp_path))["interactions"] == 4
    files = {"x/one.inter": INTER, "y/two.inter": INTER}
    with pytest.raises(DataError, match=r"b\.zip: 2 \.inter files \(x/one\.inter, y/two\.inter\), expected one, or"):
        prepared(packed(tmp_path / "b.zip", files), tmp_path, seed=0, out=tmp_path / "other")


def refused(archive: Path, root: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        prepared(archive, root)
    assert "\n" not in str(caught.value)
    assert str(archive) in str(caught.value)
    assert ".tmp" not in str(caught.value)
    assert not root.exists()


def test_what_cannot_be_taken(tmp_path: Path, raw: RawFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "deep" / "root"
    root.parent.mkdir()
    archive = packed(tmp_path / "none.zip", {"notes.txt": b"1", "ratings.csv": b"2"})
    refused(archive, root, "none of its files is one to prepare baby from, expected raw files .reviews_Baby_5")
    reviews = {f"{place}/{raw.reviews.name}": raw.reviews for place in ("a", "b")}
    refused(packed(tmp_path / "two.zip", dict(reviews)), root, "reviews_Baby_5.json.gz is in two of its folders")
    outside = packed(tmp_path / "outside.zip", {"../baby.inter": INTER})
    refused(outside, root, r"entry '\.\./baby\.inter': leads outside the folder")
    refused(packed(tmp_path / "other.zip", {"ml100k.inter": INTER}), root, r"other\.zip/ml100k\.inter: holds 2 users")
    refused(packed(tmp_path / "part.zip", {raw.reviews.name: raw.reviews}), root, "no image_features_Baby.b")
    monkeypatch.setattr(raw_files, "LARGEST", 1000)
    refused(packed(tmp_path / "bomb.zip", {raw.images.name: bytes(2000)}), root, "expected at most the 1000 of 1000")
    big = packed(tmp_path / "big.tar.gz", {"movie.mp4": bytes(2000), "image_features_Sports.b": bytes(2000)})
    refused(big, root, "none of its files")
    with pytest.raises(DataError, match=r"nowhere\.zip: no such folder"):
        prepared(tmp_path / "nowhere.zip", root)


def test_what_a_killed_process_left_is_cleared(tmp_path: Path, raw: RawFiles) -> None:
    archive = packed(tmp_path / "all.zip", {raw.reviews.name: raw.reviews, raw.images.name: raw.images})
    script = f"""
import time
from pathlib import Path
from bm3_pyg.data.amazon.raw_files import opened
with opened(Path({str(archive)!r}), "baby", Path({str(tmp_path / "root")!r})):
    print("in", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"in\n"
    assert len(left := list((tmp_path / "root").iterdir())) == 1
    assert any(left[0].rglob(raw.images.name))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    prepared(archive, tmp_path / "root")
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["baby"]
