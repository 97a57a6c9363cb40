from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bm3_pyg.data.amazon.raw_files import CATEGORIES, at_hand, check_name, gather, remotes, wanted
from bm3_pyg.data.download_folder import Remote
from bm3_pyg.errors import ConfigError

REVIEWS, RATINGS, META, IMAGES = remotes("baby")


@pytest.mark.parametrize("name", CATEGORIES)
def test_four_files_each(name: str) -> None:
    files = remotes(name)
    assert len(files) == 4
    assert all(CATEGORIES[name] in file and url.endswith(f"/{file}") for file, url in files.items())


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="name: got 'sport', did you mean 'sports'"):
        check_name("sport")


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
    found = gather([RATINGS, IMAGES], "baby", tmp_path, {}, source=None, urls=urls, offline=True)
    assert found.files() == [tmp_path / "raw" / RATINGS, tmp_path / "raw" / IMAGES]
    assert found.meta is None
    files, folder, options = asked[0]
    assert [(file.name, file.url) for file in files] == [
        (RATINGS, remotes("baby")[RATINGS]),
        (IMAGES, "http://mirror/baby.b"),
    ]
    assert folder == tmp_path / "raw"
    assert options == {"offline": True, "force": False}
