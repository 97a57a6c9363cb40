"""The raw files: which of them serve, and where they come from, a folder, an archive or the network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bm3_pyg.data.amazon.release import CORE_OF_REVIEWS, addresses
from bm3_pyg.data.archive import extract
from bm3_pyg.data.download_folder import Remote, download
from bm3_pyg.errors import BM3Error, ConfigError, DataError, nearest, shown
from bm3_pyg.files import clear_leftovers, temporary_folder

MMREC = r".+\.inter|.+_feat\.npy|.+_missing\.npy|[ui]_id_mapping\.csv"
LARGEST = 1 << 34  # bytes of all files taken from an archive; electronics' raw files are some 9 GB
UNPACKED = "unpacked"


@dataclass(frozen=True)
class Origin:
    """Where raw files come from: the folder ``source`` if given, else ``root/raw``, into which they are downloaded.

    Attributes:
        root: Folder of raw and prepared files.
        source: A folder that has them; then nothing is downloaded.
        urls: Other addresses than the release's, by name of the file.
        offline: Download nothing.
        force: Download anew what is there.
    """

    root: Path
    source: Path | None = None
    urls: Mapping[str, str] = field(default_factory=dict)
    offline: bool = False
    force: bool = False

    @property
    def folders(self) -> list[Path]:
        """Where files may be, first the one that counts."""
        return ([] if self.source is None else [self.source]) + [self.root / "raw"]


@dataclass(frozen=True)
class RawPaths:
    """The raw files of one dataset; no meta or image file where those features are not wanted."""

    interactions: Path
    meta: Path | None
    images: Path | None

    def by_name(self) -> dict[str, Path]:
        """Those that there are."""
        return {path.name: path for path in (self.interactions, self.meta, self.images) if path is not None}


def at_hand(name: str, folders: Sequence[Path]) -> dict[str, Path]:
    """Raw files of a dataset that are there, each in the first folder that has it."""
    places = {file: [folder / file for folder in folders if (folder / file).is_file()] for file in addresses(name)}
    return {file: paths[0] for file, paths in places.items() if paths}


def wanted(name: str, core: int | None, texts: bool, images: bool, there: Mapping[str, Path]) -> list[str]:
    """Names of the files to read: interactions first, then meta and images as far as wanted.

    The reviews are the 5-core already and much the smaller source of it, so they serve from ``core`` 5 on; below (or
    without) the ratings are needed. From 5 on, ratings that are there are used where the reviews are not.
    """
    reviews, ratings, meta, image = addresses(name)
    enough = core is not None and core >= CORE_OF_REVIEWS
    interactions = reviews if enough and (reviews in there or ratings not in there) else ratings
    return [interactions, *([meta] if texts else []), *([image] if images else [])]


def gather(name: str, files: Sequence[str], origin: Origin) -> RawPaths:
    """The raw files called ``files``, interactions first, downloaded if need be.

    Raises:
        DataError: A file is not at hand, or cannot be downloaded.
        ConfigError: ``origin.urls`` names a file that the dataset has not.
    """
    urls = addresses(name)
    for file in origin.urls:
        if file not in urls:
            raise ConfigError(f"urls: got {shown(file)}, {nearest(file, urls)}")
    urls |= origin.urls
    if origin.source is None:
        remotes = [Remote(file, urls[file]) for file in files]
        downloaded = download(remotes, origin.root / "raw", offline=origin.offline, force=origin.force)
        paths = dict(zip(files, downloaded, strict=True))
    else:
        paths = at_hand(name, origin.folders)
        for file in files:
            if file not in paths:
                way_out = _way_out(file, files, paths)
                raise DataError(f"{origin.source}: no {file}, expected it there (it is at {urls[file]}); {way_out}")
    kinds = {_kind(file): paths[file] for file in files}
    return RawPaths(paths[files[0]], kinds.get("meta"), kinds.get("image"))


@contextmanager
def opened(source: Path | None, name: str, root: Path) -> Iterator[Path | None]:
    """Within the context, ``source`` as a folder; of an archive, a folder below ``root`` with what serves for ``name``.

    The raw files and those of MMRec's layout are taken, whatever folder of the archive they are in, and no others. What
    a killed process left is removed at the next call.

    Raises:
        DataError: There is nothing at ``source``, or an archive holds none of the files, or several that are called the
            same; see also :func:`bm3_pyg.data.archive.extract`. Messages of the context name the archive where it is
            meant.
    """
    if source is not None and source.is_file():
        with _unpacked(source, name, root) as folder:
            yield folder
        return
    clear_leftovers(root, UNPACKED)
    if source is not None and not source.is_dir():
        raise DataError(
            f"{source}: {'not a folder' if source.exists() else 'no such folder'}, expected raw files in it"
        )
    yield source


@contextmanager
def _unpacked(archive: Path, name: str, root: Path) -> Iterator[Path]:
    serves = re.compile("|".join([MMREC, *map(re.escape, addresses(name))]))
    with _kept_absent(root), temporary_folder(root / UNPACKED) as folder:
        files = extract(
            archive,
            folder / "files",
            max_bytes=LARGEST,
            wanted=lambda entry: bool(serves.fullmatch(PurePosixPath(entry).name)),
        )
        if not files:
            raise DataError(
                f"{archive}: none of its files is one to prepare {name} from, expected raw files "
                f"({', '.join(addresses(name))}) or MMRec's (NAME.inter and, say, image_feat.npy)"
            )
        try:
            yield _together(archive, name, folder, files)
        except BM3Error as error:
            raise type(error)(re.sub(rf"{re.escape(str(folder))}(/files|/flat)?", str(archive), str(error))) from error


@contextmanager
def _kept_absent(root: Path) -> Iterator[None]:
    """A folder that was not there, and to which nothing came, is not there at the end."""
    was_there = root.exists()
    try:
        yield
    finally:
        if not was_there:
            with suppress(OSError):
                root.rmdir()


def _together(archive: Path, name: str, folder: Path, files: list[Path]) -> Path:
    """The one folder to prepare from: the one with the .inter file, else one that all raw files are moved to."""
    if len({file.parent for file in files}) == 1:
        return files[0].parent
    splits = [file for file in files if file.suffix == ".inter"]
    own = [file for file in splits if file.stem == name] or splits
    if len(own) > 1:
        first = ", ".join(str(file.relative_to(folder / "files")) for file in own[:3])
        raise DataError(f"{archive}: {len(own)} .inter files ({first}), expected one, or one called {name}.inter")
    if own:
        return own[0].parent
    flat = folder / "flat"
    flat.mkdir()
    for file in files:
        if file.name not in addresses(name):
            continue
        if (flat / file.name).exists():
            raise DataError(f"{archive}: {file.name} is in two of its folders, expected it in one")
        file.rename(flat / file.name)
    return flat


def _way_out(file: str, files: Sequence[str], there: Mapping[str, Path]) -> str:
    """What to do about a file that is not at hand."""
    if _kind(file) == "ratings" and any(_kind(other) == "reviews" for other in there):
        return f"the reviews that are there are a {CORE_OF_REVIEWS}-core already, which serves --core 5 and above"
    if file == files[0]:
        return "without --from it is downloaded"
    return "--text-encoder none goes without texts" if _kind(file) == "meta" else "--no-images goes without them"


def _kind(file: str) -> str:
    """``reviews``, ``ratings``, ``meta`` or ``image``."""
    return file.split("_", 1)[0]
