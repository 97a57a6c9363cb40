"""The raw files, or MMRec's, from an archive of unknown content."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from bm3_pyg.data.amazon.raw_files import remotes
from bm3_pyg.data.archive import extract
from bm3_pyg.errors import BM3Error, DataError
from bm3_pyg.files import temporary_folder

MMREC = r".+\.inter|.+_feat\.npy|.+_missing\.npy|[ui]_id_mapping\.csv"
LARGEST = 1 << 34  # bytes of all files taken; electronics' raw files are some 9 GB
UNPACKED = "unpacked"


@contextmanager
def unpacked(archive: Path, name: str, root: Path) -> Iterator[Path]:
    """Within the context, a folder below ``root`` with what ``archive`` holds of the dataset ``name``.

    The raw files and those of MMRec's layout are taken, whatever folder of the archive they are in, and no others. What
    a killed process left is removed at the next call.

    Raises:
        DataError: The archive holds none of them, or several that are called the same; see also
            :func:`bm3_pyg.data.archive.extract`. Messages of the context name the archive where it is meant.
    """
    known = re.compile("|".join([MMREC, *map(re.escape, remotes(name))]))
    with _kept_absent(root), temporary_folder(root / UNPACKED) as folder:
        files = extract(
            archive, folder / "files", max_bytes=LARGEST, wanted=lambda entry: bool(known.fullmatch(_base(entry)))
        )
        if not files:
            raise DataError(
                f"{archive}: none of its files is one to prepare {name} from, expected raw files "
                f"({', '.join(remotes(name))}) or MMRec's (NAME.inter and, say, image_feat.npy)"
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


def _base(entry: str) -> str:
    return PurePosixPath(entry).name


def _together(archive: Path, name: str, folder: Path, files: list[Path]) -> Path:
    """The one folder to prepare from: the one with the .inter file, else one that all raw files are moved to."""
    places = list(dict.fromkeys(file.parent for file in files))
    if len(places) == 1:
        return places[0]
    splits = [file for file in files if file.suffix == ".inter"]
    own = [file for file in splits if file.stem == name] or splits
    if len(own) > 1:
        shown = ", ".join(str(file.relative_to(folder / "files")) for file in own[:3])
        raise DataError(f"{archive}: {len(own)} .inter files ({shown}), expected one, or one called {name}.inter")
    if own:
        return own[0].parent
    flat = folder / "flat"
    flat.mkdir()
    for file in files:
        if file.name not in remotes(name):
            continue
        if (flat / file.name).exists():
            raise DataError(f"{archive}: {file.name} is in two of its folders, expected it in one")
        file.rename(flat / file.name)
    return flat
