"""One file over HTTP: what has come is kept as a part, and continued if it is still what the server has."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import NoReturn

import requests
import urllib3
from tqdm import tqdm

from bm3_pyg.data.content import file_sha256
from bm3_pyg.errors import one_line
from bm3_pyg.files import write_text

PIECE = 1 << 16  # bytes
MAGIC = {".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b", ".zip": b"PK"}


@dataclass(frozen=True)
class Retry:
    """How long to go on. The wait doubles after each attempt that brought no new byte, and half of it is random."""

    attempts: int = 5  # in a row without a new byte
    first_wait: float = 0.5  # seconds, as all below
    longest_wait: float = 8.0
    longest_retry_after: float = 60.0  # a server that asks for more is not waited for
    connect_timeout: float = 10.0
    read_timeout: float = 30.0

    @property
    def timeout(self) -> tuple[float, float]:
        """As requests takes it."""
        return self.connect_timeout, self.read_timeout


@dataclass(frozen=True)
class Source:
    """What the server said of the content when its first byte came; the size is None where it did not say."""

    url: str
    etag: str | None
    last_modified: str | None
    size: int | None

    @property
    def validator(self) -> str | None:
        """For ``If-Range`` (RFC 9110, 13.1.5), which takes no weak ETag."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


@dataclass(frozen=True)
class Fetched:
    source: Source
    size: int
    sha256: str


class FetchError(Exception):
    """Why a file cannot be had: the server is ``unreachable``, or the content ``differs`` from what is known of it."""

    def __init__(self, reason: str, *, unreachable: bool = False, differs: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable
        self.differs = differs


def fetch(session: requests.Session, url: str, part: Path, *, size: int | None = None, retry: Retry) -> Fetched:
    """Bring ``part`` (``NAME.part``) to completion, from what is there if that is still what the server has.

    Beside it ``NAME.part.json`` keeps where it came from. A server that gives no length and hangs up early cannot be
    told from one that is done: such a file is as good as its own checksum.

    Raises:
        FetchError: The server refuses, cannot be reached, gives something else than the name says or not ``size``
            bytes, or the disk is full. The part is kept unless its content is wrong.
    """
    furthest, failures = _length(part), 0
    with tqdm(desc=part.stem, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:
        while True:
            try:
                return _attempt(session, url, part, size, retry, bar)
            except _Temporary as error:
                failures = 1 if _length(part) > furthest else failures + 1
                furthest = max(furthest, _length(part))
                wait = _wait(error, failures, retry)
                logging.getLogger("bm3_pyg").warning("%s: %s; trying again in %.1f s", url, error, wait)
                time.sleep(wait)


def probe(session: requests.Session, url: str, retry: Retry) -> int | None:
    """Size in bytes by a HEAD request; None where the server does not say or does not answer."""
    try:
        response = session.head(url, headers=_headers(), allow_redirects=True, timeout=retry.timeout)
    except requests.RequestException:
        return None
    return _number(response.headers.get("Content-Length")) if response.status_code == HTTPStatus.OK else None


def kept_bytes(part: Path, url: str) -> int:
    """How much of ``part`` can be continued from ``url``."""
    return _resumable(part, url)[1]


def discard(part: Path) -> None:
    """Remove a part and what is known of it."""
    part.unlink(missing_ok=True)
    _beside(part).unlink(missing_ok=True)


def wrong_kind(name: str, head: bytes) -> str | None:
    """What a file begins with, if it cannot be what its name says: an error page, or no gzip or zip file."""
    if re.match(rb"\s*<(!doctype\s+html|html|head|body)\b", head, re.IGNORECASE):
        return "an HTML page"
    magic = MAGIC.get(Path(name).suffix.lower())
    return f"bytes {head[:4]!r}" if magic and not head.startswith(magic) else None


def check_space(folder: Path, needed: int) -> None:
    """Raise :class:`FetchError` where the disk of ``folder`` has less than ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FetchError(
            f"{free / 1e9:.2f} GB are free, {needed / 1e9:.2f} GB are needed: the disk of {folder} is full"
        )


class _Temporary(Exception):
    """A failure that another attempt may mend."""

    def __init__(self, reason: str, *, unreachable: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.unreachable = unreachable
        self.retry_after = retry_after


def _attempt(
    session: requests.Session, url: str, part: Path, size: int | None, retry: Retry, bar: tqdm[NoReturn]
) -> Fetched:
    source, offset = _resumable(part, url)
    if source and offset == source.size:
        return Fetched(source, offset, file_sha256(part))
    try:
        response = session.get(url, headers=_headers(source, offset), stream=True, timeout=retry.timeout)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Temporary(f"cannot be reached ({_cause(error)})", unreachable=True) from error
    except requests.RequestException as error:
        raise FetchError(one_line(error)) from error
    with response:
        _check_status(response, part)
        source, offset = _agreed(response, part, url, source, offset)
        if size is not None and source.size not in (None, size):
            discard(part)
            raise FetchError(f"{source.size} bytes, expected {size}", differs=True)
        bar.reset(source.size)
        bar.update(offset)
        return _receive(response, part, source, offset, bar)


def _check_status(response: requests.Response, part: Path) -> None:
    status = response.status_code
    reason = f"HTTP {status} {response.reason or ''}".rstrip()
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        discard(part)
        raise _Temporary(f"{reason}: what was kept does not fit what the server has")
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500:
        raise _Temporary(reason, retry_after=_retry_after(response))
    raise FetchError(reason)


def _agreed(
    response: requests.Response, part: Path, url: str, source: Source | None, offset: int
) -> tuple[Source, int]:
    """Where the answer begins, and of what content. Some servers ignore ``If-Range``: the answer's own marks decide."""
    get = response.headers.get
    now = Source(url, get("ETag"), get("Last-Modified"), _number(get("Content-Length")))
    if response.status_code == HTTPStatus.OK:
        return now, 0
    span = re.match(r"bytes (\d+)-\d+/(\d+|\*)$", get("Content-Range", ""))
    now = replace(now, size=_number(span[2]) if span else None)
    source = source or now
    pairs = ((source.etag, now.etag), (source.last_modified, now.last_modified), (source.size, now.size))
    same = all(None in pair or pair[0] == pair[1] for pair in pairs)
    if span is None or int(span[1]) != offset or not same:
        discard(part)
        raise _Temporary("the content has changed on the server")
    return replace(source, size=now.size if source.size is None else source.size), offset


def _receive(response: requests.Response, part: Path, source: Source, offset: int, bar: tqdm[NoReturn]) -> Fetched:
    digest = hashlib.sha256()
    if offset:
        with part.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
    with part.open("ab" if offset else "wb") as file:
        if not offset:
            write_text(_beside(part), json.dumps(asdict(source)))
        for piece in _pieces(response):
            if not offset:
                _refuse_wrong_kind(response, part, piece)
            if source.size is None:
                check_space(part.parent, len(piece))
            file.write(piece)
            digest.update(piece)
            offset += len(piece)
            bar.update(len(piece))
        file.flush()
        os.fsync(file.fileno())
    if source.size is not None and offset < source.size:
        raise _Temporary(f"the connection ended after {offset} of {source.size} bytes")
    if offset == 0 or source.size not in (None, offset):
        discard(part)
        raise _Temporary(f"{offset} bytes, expected {source.size or 'some'}")
    return Fetched(source, offset, digest.hexdigest())


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as sent: a .gz file that a server calls ``Content-Encoding: gzip`` stays a .gz file."""
    while True:
        try:
            piece = response.raw.read(PIECE, decode_content=False)
        except urllib3.exceptions.HTTPError as error:
            raise _Temporary(f"the connection was lost ({one_line(error)})") from error
        if not piece:
            return
        yield piece


def _refuse_wrong_kind(response: requests.Response, part: Path, head: bytes) -> None:
    name = part.stem
    wrong = wrong_kind(name, head)
    if "html" in response.headers.get("Content-Type", "") and not name.endswith((".html", ".htm")):
        wrong = "an HTML page"
    if response.headers.get("Content-Encoding", "identity") != "identity" and Path(name).suffix not in MAGIC:
        wrong = f"content encoded as {response.headers['Content-Encoding']}"
    if wrong:
        discard(part)
        raise FetchError(f"{wrong}, expected {name}")


def _resumable(part: Path, url: str) -> tuple[Source | None, int]:
    """What is known of the part and how long it is; (None, 0) where it cannot be continued."""
    try:
        source = Source(**json.loads(_beside(part).read_text(encoding="utf-8")))
        offset = _length(part)
    except (OSError, ValueError, TypeError):
        return None, 0
    if not offset or source.url != url or not source.validator or offset > (source.size or offset):
        return None, 0
    return source, offset


def _headers(source: Source | None = None, offset: int = 0) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity", "User-Agent": "bm3-pyg"}
    if source and source.validator and offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": source.validator}
    return headers


def _wait(error: _Temporary, failures: int, retry: Retry) -> float:
    """Seconds before the next attempt; a :class:`FetchError` where there shall be none."""
    asked = error.retry_after or 0.0
    if asked > retry.longest_retry_after:
        raise FetchError(f"{error}: the server asks to wait {asked:.0f} s") from error
    if failures >= retry.attempts:
        raise FetchError(f"{error}, after {failures} attempts", unreachable=error.unreachable) from error
    wait = min(retry.first_wait * 2.0 ** (failures - 1), retry.longest_wait)
    return max(wait * random.uniform(0.5, 1.0), asked)


def _retry_after(response: requests.Response) -> float | None:
    """``Retry-After`` in seconds: a number, or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _cause(error: Exception) -> str:
    """The last clause of what requests says of a connection, which is the system's reason."""
    return one_line(error).rpartition(": ")[2].strip("'\")")


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _beside(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")
