"""The content of a file, a compressed file or a pipe."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from bm3_pyg.errors import DataError

KINDS = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
TABLES = "a .csv, .tsv, .jsonl or .parquet table"
STDIN = Path("/dev/stdin")
COMPRESSED = {
    re.compile(rb"\x1f\x8b"): (".gz", gzip.decompress),
    re.compile(rb"BZh[1-9]1AY&SY"): (".bz2", bz2.decompress),
    re.compile(rb"\xfd7zXZ\x00"): (".xz", lzma.decompress),
}
UNREADABLE = {b"PK\x03\x04": "a zip archive or a spreadsheet", b"\x28\xb5\x2f\xfd": "compressed by zstd"}

_streams: ContextVar[dict[Path, bytes] | None] = ContextVar("streams", default=None)


@dataclass(frozen=True)
class Content:
    """What ``path`` holds, decompressed; the SHA-256 is of the file as it is."""

    path: Path
    raw: bytes
    sha256: str


def located(path: str | Path) -> Path:
    """The absolute path; ``-`` is standard input."""
    return STDIN if str(path) == "-" else Path(os.path.abspath(path))


def kind_of(path: Path) -> str | None:
    """``"csv"``, ``"tsv"``, ``"jsonl"`` or ``"parquet"`` by the name, whether compressed or not; None for others."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in {suffix for suffix, _ in COMPRESSED.values()}:
        suffixes.pop()
    return KINDS.get(suffixes[-1]) if suffixes else None


def is_table(path: Path) -> bool:
    """Whether the name is a table's; a pipe, which has no name, is one too."""
    return kind_of(path) is not None or is_stream(path)


def table_name(path: Path) -> str:
    """What data from ``path`` is called: ``"clicks"`` for clicks.csv.gz."""
    if is_stream(path):
        return "stdin" if path == STDIN else "pipe"
    plain = path.with_suffix("") if path.suffix.lower() in {suffix for suffix, _ in COMPRESSED.values()} else path
    return plain.stem


def is_stream(path: Path) -> bool:
    """Whether ``path`` is a pipe or a device, or names what this process alone has open: it cannot be read later."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or str(path).startswith(("/dev/", "/proc/"))


@contextmanager
def streams_kept() -> Iterator[None]:
    """Within it what was read of a pipe is kept, so that it can be read again."""
    if _streams.get() is not None:
        yield
        return
    token = _streams.set({})
    try:
        yield
    finally:
        _streams.reset(token)


def read_content(path: str | Path) -> Content:
    """Read a file or pipe whole; one compressed by gzip, bzip2 or xz (by its first bytes) is decompressed.

    Raises:
        DataError: There is nothing to read, or it is damaged or compressed in another way.
    """
    path = STDIN if str(path) == "-" else Path(path)
    raw = read_bytes(path)
    digest = hashlib.sha256(raw).hexdigest()
    for start, what in UNREADABLE.items():
        if raw.startswith(start):
            raise DataError(f"{path}: is {what}, expected {TABLES}, as it is or compressed by gzip, bzip2 or xz")
    for magic, (suffix, decompress) in COMPRESSED.items():
        if magic.match(raw):
            try:
                return Content(path, decompress(raw), digest)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise DataError(f"{path}: damaged or cut off, expected a whole {suffix} file ({error})") from None
    return Content(path, raw, digest)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file or pipe as they are; a :class:`DataError` where there are none to read."""
    stream, streams = is_stream(path), _streams.get()
    if stream and streams is not None and path in streams:
        return streams[path]
    if not stream:
        refuse_no_file(path)
    try:
        with path.open("rb") as file:
            if file.isatty():
                raise DataError(f"{path}: is a terminal, expected a file or a pipe")
            raw = file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if stream and streams is not None:
        streams[path] = raw
    return raw


def check_utf8(path: Path, raw: bytes) -> None:
    """Raise a :class:`DataError` naming the line of the first byte that is not UTF-8."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            f"{path}: is UTF-16 (Excel's Unicode text), expected UTF-8: save it as CSV UTF-8, or convert it by "
            f"iconv -f UTF-16 -t UTF-8"
        )
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line}: byte 0x{raw[error.start]:02x} is not UTF-8, expected UTF-8 text"
        ) from None


def text_of(content: Content) -> bytes:
    """UTF-8 text without its byte order mark.

    Raises:
        DataError: It is not UTF-8, or holds a NUL byte; the message names the line.
    """
    check_utf8(content.path, content.raw)
    if (at := content.raw.find(b"\0")) >= 0:
        line = content.raw.count(b"\n", 0, at) + 1
        raise DataError(f"{content.path}: line {line}: a NUL byte, expected UTF-8 text (is it UTF-16, or damaged?)")
    return content.raw.removeprefix(b"\xef\xbb\xbf")


def file_sha256(path: str | Path) -> str:
    """Hex digest of a file's content, read in pieces."""
    path = Path(path)
    if is_stream(path):
        return hashlib.sha256(read_bytes(path)).hexdigest()
    refuse_no_file(path)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def refuse_no_file(path: Path) -> None:
    """Raise a :class:`DataError` unless ``path`` is a regular file."""
    if not path.is_file():
        raise DataError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}, expected a file")
