"""Where the Amazon 2014 release is, and which of its files serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bm3_pyg.data.download_folder import Remote, download
from bm3_pyg.errors import ConfigError, DataError, nearest, shown

CATEGORIES = {"baby": "Baby", "sports": "Sports_and_Outdoors", "electronics": "Electronics"}
BASE = "https://snap.stanford.edu/data/amazon/productGraph"
CORE_OF_REVIEWS = 5  # what reviews_CAT_5.json.gz was reduced to before it was published


@dataclass(frozen=True)
class Sources:
    """The raw files of one dataset; no meta or image file where those features are not wanted."""

    interactions: Path
    meta: Path | None
    images: Path | None

    def files(self) -> list[Path]:
        """Those that there are."""
        return [path for path in (self.interactions, self.meta, self.images) if path is not None]


def check_name(name: str) -> str:
    """The category of a dataset's name; a :class:`ConfigError` where it is not known."""
    if name not in CATEGORIES:
        raise ConfigError(f"name: got {shown(name)}, {nearest(name, CATEGORIES)}")
    return CATEGORIES[name]


def remotes(name: str) -> dict[str, str]:
    """Every raw file of a dataset and its address: reviews, ratings, meta, images, in this order."""
    category = check_name(name)
    return {
        f"reviews_{category}_5.json.gz": f"{BASE}/categoryFiles/reviews_{category}_5.json.gz",
        f"ratings_{category}.csv": f"{BASE}/categoryFiles/ratings_{category}.csv",
        f"meta_{category}.json.gz": f"{BASE}/categoryFiles/meta_{category}.json.gz",
        f"image_features_{category}.b": f"{BASE}/image_features/categoryFiles/image_features_{category}.b",
    }


def at_hand(name: str, folders: Sequence[Path]) -> dict[str, Path]:
    """Raw files of a dataset that are there, each in the first folder that has it."""
    places = {file: [folder / file for folder in folders if (folder / file).is_file()] for file in remotes(name)}
    return {file: found[0] for file, found in places.items() if found}


def wanted(name: str, core: int | None, texts: bool, images: bool, there: Mapping[str, Path]) -> list[str]:
    """Names of the files to read: interactions first, then meta and images as far as wanted.

    The reviews are the 5-core already and much the smaller source of it, so they serve from ``core`` 5 on; below (or
    without) the ratings are needed. From 5 on, ratings that are there are used where the reviews are not.
    """
    reviews, ratings, meta, image = remotes(name)
    enough = core is not None and core >= CORE_OF_REVIEWS
    interactions = reviews if enough and (reviews in there or ratings not in there) else ratings
    return [interactions, *([meta] if texts else []), *([image] if images else [])]


def gather(
    names: Sequence[str],
    name: str,
    root: Path,
    there: Mapping[str, Path],
    *,
    source: Path | None,
    urls: Mapping[str, str] | None,
    offline: bool,
    force: bool = False,
) -> Sources:
    """The files called ``names``: from ``there`` if ``source`` is given, else in ``root/raw``, downloaded if need be.

    Raises:
        DataError: A file is not in ``source``, or cannot be downloaded.
        ConfigError: ``urls`` names a file that the dataset has not.
    """
    addresses = remotes(name)
    for file in urls or {}:
        if file not in addresses:
            raise ConfigError(f"urls: got {shown(file)}, {nearest(file, addresses)}")
    addresses |= urls or {}
    if source is not None:
        for file in names:
            if file not in there:
                raise DataError(_missing(file, source, addresses[file], names, there))
        paths = {file: there[file] for file in names}
    else:
        folder = root / "raw"
        fetched = download([Remote(file, addresses[file]) for file in names], folder, offline=offline, force=force)
        paths = dict(zip(names, fetched, strict=True))
    kinds = {file.split("_", 1)[0]: path for file, path in paths.items()}
    return Sources(paths[names[0]], kinds.get("meta"), kinds.get("image"))


def _missing(file: str, source: Path, url: str, names: Sequence[str], there: Mapping[str, Path]) -> str:
    without = {"meta": "--text-encoder none goes without texts", "image": "--no-images goes without them"}
    kind = file.split("_", 1)[0]
    if kind == "ratings" and any(other.startswith("reviews_") for other in there):
        way_out = f"the reviews that are there are a {CORE_OF_REVIEWS}-core already, which serves --core 5 and above"
    elif file == names[0]:
        way_out = "without --from it is downloaded"
    else:
        way_out = without[kind]
    return f"{source}: no {file}, expected it there (it is at {url}); {way_out}"
