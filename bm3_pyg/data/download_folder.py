"""Files from the network into a folder: once, whole, and checked ever after."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

import filelock
import requests

from bm3_pyg.data.content import file_sha256
from bm3_pyg.data.http_file import (
    FetchError,
    Retry,
    check_space,
    discard,
    fetch,
    kept_bytes,
    probe,
    wrong_kind,
)
from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.files import write_text

RECORD = "downloads.json"
LOCK = ".downloads.lock"


@dataclass(frozen=True)
class Remote:
    """A file to have: its name in the folder, where it comes from, and its hash if that is known beforehand."""

    name: str
    url: str
    sha256: str | None = None


def download(
    files: Sequence[Remote],
    folder: str | Path,
    *,
    offline: bool = False,
    force: bool = False,
    retry: Retry | None = None,
) -> list[Path]:
    """The paths of ``files`` in ``folder``; those that are not there are fetched.

    ``downloads.json`` in the folder records each file's address, size, SHA-256, ETag and date when it is first had. A
    file that is there is used if it agrees with that; one without a record was put there by hand and is recorded so.
    A new file is written to ``NAME.part``, continued from there by the next attempt or the next call, and renamed
    when its size and hash are right. One process at a time works in a folder; the others wait for it.

    Args:
        files: What to have.
        folder: Where; made if need be.
        offline: Ask nothing of the network.
        force: Fetch every file anew and forget what was recorded of it.
        retry: Attempts, waits and timeouts.

    Raises:
        ConfigError: A name is not a plain file name or stands twice, or an address is not http or https.
        DataError: A file at hand differs from what was recorded; or one cannot be had: the message says which to put
            where. Nothing is then left but finished files and parts that can be continued.
    """
    folder = Path(folder)
    _check(files)
    if offline and force:
        raise ConfigError("offline and force: nothing can be fetched anew without the network")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _one_process(folder):
            wanted = [remote for remote in files if force or not _at_hand(remote, folder)]
            if wanted and offline:
                raise DataError(f"offline, and {_put_yourself(wanted, folder)}")
            if wanted:
                _fetch_all(wanted, folder, force, retry or Retry())
    except OSError as error:
        full = error.errno == errno.ENOSPC
        raise DataError(
            f"{folder}: {'the disk is full; what has come is kept' if full else f'cannot be written ({error})'}"
        ) from error
    return [folder / remote.name for remote in files]


@dataclass(frozen=True)
class _Record:
    """What a file was when it was first had; of one that was put there by hand the address is None."""

    url: str | None
    size: int
    sha256: str
    etag: str | None = None
    last_modified: str | None = None
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))


def _fetch_all(wanted: Sequence[Remote], folder: Path, force: bool, retry: Retry) -> None:
    with requests.Session() as session:
        _check_space(session, wanted, folder, retry)
        for position, remote in enumerate(wanted):
            try:
                _fetch_one(session, remote, folder, force, retry)
            except FetchError as error:
                missing = wanted[position:] if error.unreachable else [remote]
                recorded = error.differs and not force and remote.sha256 is None
                hint = f" (as recorded in {folder / RECORD}; --force accepts the new content)" if recorded else ""
                raise DataError(
                    f"{remote.url}: {error}{hint}; {_put_yourself(missing, folder)}, "
                    f"or give another address by --url {remote.name}=URL"
                ) from error


def _fetch_one(session: requests.Session, remote: Remote, folder: Path, force: bool, retry: Retry) -> None:
    """Fetch one file; one whose content is wrong is fetched once more from zero."""
    part = folder / f"{remote.name}.part"
    record = None if force else _read_records(folder).get(remote.name)
    size, sha256 = _known(remote, record if record and record.url else None)
    for last in (False, True):
        fetched = fetch(session, remote.url, part, size=size, retry=retry)
        if size in (None, fetched.size) and sha256 in (None, fetched.sha256):
            part.replace(folder / remote.name)
            discard(part)
            source = fetched.source
            record = _Record(remote.url, fetched.size, fetched.sha256, source.etag, source.last_modified)
            _write_record(folder, remote.name, record)
            return
        discard(part)
        wrong = f"{_in_words(fetched.size, fetched.sha256)}, expected {_in_words(size, sha256)}"
        if last:
            raise FetchError(wrong, differs=True)
        logging.getLogger("bm3_pyg").warning("%s: %s; fetching it once more from the start", remote.url, wrong)


def _at_hand(remote: Remote, folder: Path) -> bool:
    """Whether the file is there, and as it should be; a file put there by hand is recorded."""
    path = folder / remote.name
    if not path.exists():
        return False
    record = _read_records(folder).get(remote.name)
    size, sha256 = path.stat().st_size, file_sha256(path)
    with path.open("rb") as file:
        if wrong := wrong_kind(remote.name, file.read(512)):
            raise DataError(f"{path}: {wrong}, expected {remote.name}; delete it to have it fetched")
    known = _known(remote, record)
    if known[0] not in (None, size) or known[1] not in (None, sha256):
        accept = f", or remove its entry from {folder / RECORD} to accept it" if record and not remote.sha256 else ""
        raise DataError(
            f"{path}: {_in_words(size, sha256)}, expected {_in_words(*known)}; "
            f"delete the file or use --force to have it fetched anew{accept}"
        )
    if record is None and os.access(folder, os.W_OK):
        _write_record(folder, remote.name, _Record(None, size, sha256))
    return True


def _check_space(session: requests.Session, wanted: Sequence[Remote], folder: Path, retry: Retry) -> None:
    """Refuse to begin what cannot end; sizes that nobody knows are checked while writing."""
    needed = 0
    for remote in wanted:
        if (size := probe(session, remote.url, retry)) is not None:
            needed += max(size - kept_bytes(folder / f"{remote.name}.part", remote.url), 0)
    try:
        check_space(folder, needed)
    except FetchError as error:
        raise DataError(f"{error}; it takes {', '.join(remote.name for remote in wanted)}") from error


@contextmanager
def _one_process(folder: Path) -> Iterator[None]:
    """A folder that cannot be written needs no lock, and may still hold all that is asked for."""
    if not os.access(folder, os.W_OK):
        yield
        return
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=1.0)
    except filelock.Timeout:
        print(f"waiting for another process that downloads into {folder}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check(files: Sequence[Remote]) -> None:
    names = [remote.name for remote in files]
    for remote in files:
        name = remote.name
        reserved = name in ("", RECORD) or name.startswith(".") or name.endswith((".part", ".part.json"))
        if reserved or any(mark in name for mark in "/\\:\0\n"):
            raise ConfigError(f"download {name!r}: expected a plain file name")
        if names.count(name) > 1:
            raise ConfigError(f"download {name!r}: stands twice among the files")
        if urlsplit(remote.url).scheme not in ("http", "https") or not urlsplit(remote.url).hostname:
            raise ConfigError(f"download {name}: the address is {remote.url!r}, expected http:// or https://")


def _put_yourself(missing: Sequence[Remote], folder: Path) -> str:
    return f"these are missing: put into {folder} " + ", ".join(f"{remote.name} ({remote.url})" for remote in missing)


def _known(remote: Remote, record: _Record | None) -> tuple[int | None, str | None]:
    """Size and SHA-256 to expect: the recorded ones, but the caller's SHA-256 if there is one."""
    return record.size if record else None, remote.sha256 or (record.sha256 if record else None)


def _in_words(size: int | None, sha256: str | None) -> str:
    known = ([f"{size} bytes"] if size is not None else []) + ([f"SHA-256 {sha256}"] if sha256 else [])
    return " with ".join(known)


def _read_records(folder: Path) -> dict[str, _Record]:
    path = folder / RECORD
    if not path.exists():
        return {}
    try:
        return {name: _Record(**entry) for name, entry in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a record of downloads; delete it to have the files recorded anew") from error


def _write_record(folder: Path, name: str, record: _Record) -> None:
    records = {**_read_records(folder), name: record}
    write_text(folder / RECORD, json.dumps({name: asdict(entry) for name, entry in records.items()}, indent=1) + "\n")
