"""Archives of unknown origin: what they hold is written into one new folder, and nowhere else."""

from __future__ import annotations

import logging
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from bm3_pyg.errors import DataError, one_line, shown
from bm3_pyg.files import atomic_folder, check_new_folder

PIECE = 1 << 20  # bytes
# RuntimeError is what zipfile raises of encryption, and its subclass NotImplementedError of packing it does not know.
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def extract(
    archive: str | Path,
    folder: str | Path,
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    max_bytes: int = 1 << 36,
    max_files: int = 1_000_000,
) -> list[Path]:
    """Files of a .zip or .tar (also .tar.gz, .tar.bz2, .tar.xz), written to ``folder``, in the archive's order.

    Only content is taken: no permissions, owners or times. Either all of it is there at the end or no folder.

    Args:
        archive: Told by its content, whatever its name.
        folder: Must not exist or be empty.
        wanted: Which entries to take, by name. Others are neither checked nor written; how many files there are, is
            logged.
        max_bytes: Of all files together, unpacked; neither may it exceed the free disk space.
        max_files: Entries, folders included.

    Raises:
        DataError: An entry leads outside the folder (``../``, an absolute name), is a link or a device, or stands
            twice; the archive is broken, encrypted or holds more than the bounds; the folder holds something.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise DataError(f"{archive}: no such file, expected a .zip or .tar archive")
    check_new_folder(folder, DataError, f", expected a new or empty folder for what {archive} holds")
    try:
        with atomic_folder(folder) as temporary:
            names, others = _write_all(archive, temporary, wanted, max_bytes, max_files)
    except BROKEN as error:
        raise DataError(f"{archive}: cannot be unpacked ({one_line(error)})") from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be unpacked ({error.strerror or one_line(error)})") from error
    if others:
        logging.getLogger("bm3_pyg.prepare").info("%s: %s other files in it stay packed", archive, f"{others:,}")
    return [folder / name for name in names]


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    kind: str  # "file", "folder", or what is refused
    content: IO[bytes] | None


def _write_all(
    archive: Path, folder: Path, wanted: Callable[[str], bool], max_bytes: int, max_files: int
) -> tuple[list[str], int]:
    names: list[str] = []
    left, others = max_bytes, 0
    for number, entry in enumerate(_entries(archive, wanted), start=1):
        where = f"{archive}: entry {shown(entry.name)}"
        if number > max_files:
            raise DataError(f"{archive}: more than {max_files} entries")
        if not wanted(entry.name):
            others += entry.kind != "folder"
            continue
        _refuse_outside(where, entry)
        target = folder.joinpath(*PurePosixPath(entry.name).parts)
        if entry.content is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        free = shutil.disk_usage(folder).free
        if entry.size > min(left, free):
            bound = f"{left} of {max_bytes} allowed bytes" if left < free else f"{free} bytes on the disk"
            raise DataError(f"{where}: {entry.size} bytes, expected at most the {bound} that are left")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise DataError(f"{where}: is in a folder whose name a file has") from None
        left -= _copy(entry.content, target, where, entry.size)
        names.append(entry.name)
    return names, others


def _entries(archive: Path, wanted: Callable[[str], bool]) -> Iterator[_Entry]:
    """One after the other, so that a large compressed tar is read once."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as members:
            _refuse_hidden(archive, len(members.infolist()))
            for info in members.infolist():
                kind = _zip_kind(info)
                if kind != "file" or not wanted(info.filename):
                    yield _Entry(info.filename, 0, kind, None)
                    continue
                with members.open(info) as content:
                    yield _Entry(info.filename, info.file_size, kind, content)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                kind = "file" if member.isreg() else "folder" if member.isdir() else "link"
                kind = "device" if member.isdev() else kind
                body = tar.extractfile(member) if member.isreg() and wanted(member.name) else None
                yield _Entry(member.name, member.size, kind, body)
            _refuse_early_end(archive, tar)
    else:
        raise DataError(f"{archive}: neither a .zip nor a .tar archive")


def _refuse_hidden(archive: Path, entries: int) -> None:
    """zipfile reads a directory whose damaged entry has swallowed others; the record at the end counts them."""
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - (1 << 17)))
        record = file.read().rpartition(b"PK\5\6")[2]
    expected = int.from_bytes(record[6:8], "little")
    if expected not in (entries, 0xFFFF):  # the number that means a larger one stands elsewhere
        raise DataError(f"{archive}: damaged: {entries:,} entries, expected {expected:,}")


def _refuse_early_end(archive: Path, tar: tarfile.TarFile) -> None:
    """tarfile takes a damaged header for the end; the end is a block of zeros, which a cut archive lacks too."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{archive}: damaged or cut off at byte {tar.offset:,}, expected another entry or the end")


def _zip_kind(info: zipfile.ZipInfo) -> str:
    unix = info.external_attr >> 16
    if stat.S_IFMT(unix) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "link" if stat.S_ISLNK(unix) else "device"
    return "folder" if info.orig_filename.endswith("/") else "file"  # filename ends at a NUL


def _refuse_outside(where: str, entry: _Entry) -> None:
    if entry.kind not in ("file", "folder"):
        raise DataError(f"{where}: a {entry.kind}, expected files and folders only")
    windows = PureWindowsPath(entry.name)
    outside = ".." in windows.parts or windows.drive or windows.root or "\\" in entry.name or "\0" in entry.name
    if outside or (entry.kind == "file" and not windows.name):
        raise DataError(f"{where}: leads outside the folder, expected a relative name without '..'")


def _copy(content: IO[bytes], target: Path, where: str, size: int) -> int:
    """Copy what the entry claims to hold, and not a byte more."""
    copied = 0
    try:
        with target.open("xb") as file:
            while piece := content.read(PIECE):
                copied += len(piece)
                if copied > size:
                    break
                file.write(piece)
    except FileExistsError:
        raise DataError(f"{where}: stands twice") from None
    if copied != size:
        raise DataError(f"{where}: {'more' if copied > size else 'less'} than the {size} bytes it claims to hold")
    return copied
