"""One file from a server that misbehaves: what arrives, what is asked for again, what is left."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests

from bm3_pyg.data import http_file as module
from bm3_pyg.data.http_file import Fetched, FetchError, Retry, fetch, kept_bytes, probe, wrong_kind

QUICK = Retry(
    attempts=3, first_wait=0.001, longest_wait=0.002, longest_retry_after=2.0, connect_timeout=2.0, read_timeout=2.0
)
BODY = b"\x1f\x8b" + np.random.default_rng(0).bytes(300_000)
OTHER = b"\x1f\x8b" + np.random.default_rng(1).bytes(300_000)
CUT = 100_000


def get(server: Any, folder: Path, name: str = "a.gz", **options: Any) -> Fetched:
    with requests.Session() as session:
        return fetch(session, server.url(name), folder / f"{name}.part", **{"retry": QUICK, **options})


def check_whole(fetched: Fetched, folder: Path, body: bytes = BODY) -> None:
    assert (folder / "a.gz.part").read_bytes() == body
    assert (fetched.size, fetched.sha256) == (len(body), hashlib.sha256(body).hexdigest())


def check_nothing_left(folder: Path) -> None:
    assert list(folder.iterdir()) == []


def test_whole(server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    fetched = get(server, tmp_path)
    check_whole(fetched, tmp_path)
    assert fetched.source.etag
    assert fetched.source.size == len(BODY)
    check_whole(get(server, tmp_path), tmp_path)
    assert server.ranges("a.gz") == [None], "a complete part needs no second request"


def test_dropped_connections_are_continued(server: Any, tmp_path: Path) -> None:
    """Seven drops with three attempts: each brought new bytes, so none counts as a failure in a row."""
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("drop", 40_000)] * 7
    check_whole(get(server, tmp_path), tmp_path)
    assert server.ranges("a.gz") == [None] + [f"bytes={40_000 * n}-" for n in range(1, 8)]


def test_a_server_that_gives_a_bit_at_a_time(server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("partial", CUT)] * 9
    check_whole(get(server, tmp_path), tmp_path)
    assert server.ranges("a.gz") == [None, *(f"bytes={n * CUT}-" for n in (1, 2, 3))]


def test_no_progress_gives_up_and_keeps_the_part(server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("drop", CUT)] + [("drop", 0)] * 9
    with pytest.raises(FetchError, match=r"the connection .*after 3 attempts"):
        get(server, tmp_path)
    assert (tmp_path / "a.gz.part").read_bytes() == BODY[:CUT]
    assert len(server.ranges("a.gz")) == 3
    server.faults["a.gz"] = []
    check_whole(get(server, tmp_path), tmp_path)
    assert server.ranges("a.gz")[-1] == f"bytes={CUT}-"


@pytest.mark.parametrize("second", [("ignore range",), ("lie",), ("status", 416, {})])
def test_what_cannot_be_continued_starts_over(second: tuple[Any, ...], server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("drop", CUT), second]
    check_whole(get(server, tmp_path), tmp_path)
    assert server.ranges("a.gz")[:2] == [None, f"bytes={CUT}-"]
    assert server.ranges("a.gz")[2:] == ([] if second == ("ignore range",) else [None])


@pytest.mark.parametrize("second", [(), ("ignore if-range",)])
def test_content_that_changed_is_fetched_anew(second: tuple[Any, ...], server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("drop", CUT), *[("status", 404, {})]]
    with pytest.raises(FetchError):
        get(server, tmp_path)
    server.content["a.gz"] = OTHER
    server.faults["a.gz"] = [second] if second else []
    check_whole(get(server, tmp_path), tmp_path, OTHER)
    assert server.ranges("a.gz")[2] == f"bytes={CUT}-"


def test_a_weak_etag_does_not_continue(server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("weak", CUT), ("status", 404, {})]
    with pytest.raises(FetchError):
        get(server, tmp_path)
    assert kept_bytes(tmp_path / "a.gz.part", server.url("a.gz")) == 0
    check_whole(get(server, tmp_path), tmp_path)
    assert server.ranges("a.gz") == [None, None, None]


@pytest.mark.parametrize("damage", ["no json", "another url", "too long", "nonsense"])
def test_a_part_that_does_not_fit_is_not_used(damage: str, server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("drop", CUT), ("status", 404, {})]
    with pytest.raises(FetchError):
        get(server, tmp_path)
    beside, part = tmp_path / "a.gz.part.json", tmp_path / "a.gz.part"
    assert kept_bytes(part, server.url("a.gz")) == CUT
    if damage == "no json":
        beside.unlink()
    elif damage == "another url":
        beside.write_text(json.dumps({**json.loads(beside.read_text()), "url": "http://elsewhere/a.gz"}))
    elif damage == "too long":
        part.write_bytes(BODY + b"x")
    else:
        beside.write_text('["x"')
    assert kept_bytes(part, server.url("a.gz")) == 0
    check_whole(get(server, tmp_path), tmp_path)
    assert server.ranges("a.gz")[2] is None


@pytest.mark.parametrize("code", [500, 503, 408, 429])
def test_a_server_in_trouble_is_asked_again(code: int, server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("status", code, {})] * 2
    check_whole(get(server, tmp_path), tmp_path)
    assert len(server.ranges("a.gz")) == 3
    server.faults["b.gz"] = [("status", code, {})] * 9
    with pytest.raises(FetchError, match=f"HTTP {code} .*, after 3 attempts"):
        get(server, tmp_path, "b.gz")
    assert len(server.ranges("b.gz")) == 3


def test_retry_after(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [
        ("status", 429, {"Retry-After": "1"}),
        ("status", 503, {"Retry-After": formatdate(time.time() - 60, usegmt=True)}),
    ]
    check_whole(get(server, tmp_path), tmp_path)
    assert waits[0] == 1.0
    assert waits[1] <= QUICK.longest_wait
    server.faults["b.gz"] = [("status", 429, {"Retry-After": "3600"})]
    with pytest.raises(FetchError, match=r"HTTP 429 .* asks to wait 3600 s"):
        get(server, tmp_path, "b.gz")
    server.faults["c.gz"] = [("status", 429, {"Retry-After": formatdate(time.time() + 600, usegmt=True)})]
    with pytest.raises(FetchError, match=r"asks to wait (600|599) s"):
        get(server, tmp_path, "c.gz")


def test_waits_double_up_to_the_longest(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.faults["a.gz"] = [("status", 503, {})] * 9
    with pytest.raises(FetchError):
        get(server, tmp_path, retry=Retry(attempts=6, first_wait=1.0, longest_wait=4.0))
    assert len(waits) == 5
    for wait, top in zip(waits, (1, 2, 4, 4, 4), strict=True):
        assert top / 2 <= wait <= top


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 204])
def test_a_refusal_is_final(code: int, server: Any, tmp_path: Path) -> None:
    server.faults["a.gz"] = [("status", code, {})] * 2
    with pytest.raises(FetchError, match=f"HTTP {code} "):
        get(server, tmp_path)
    assert len(server.ranges("a.gz")) == 1
    check_nothing_left(tmp_path)


def test_redirects(server: Any, tmp_path: Path) -> None:
    server.content["b.gz"] = BODY
    server.faults["a.gz"] = [("status", 302, {"Location": "/b.gz"})]
    check_whole(get(server, tmp_path), tmp_path)
    server.faults["c.gz"] = [("status", 302, {"Location": "file:///etc/passwd"})]
    with pytest.raises(FetchError, match="No connection adapters"):
        get(server, tmp_path, "c.gz")
    server.faults["d.gz"] = [("status", 302, {"Location": "/d.gz"})] * 99
    with pytest.raises(FetchError, match="redirects"):
        get(server, tmp_path, "d.gz")


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("text/html; charset=utf-8", b"\x1f\x8b<!-- sorry --><html></html>"),
        ("application/octet-stream", b"<!DOCTYPE html><html><body>Sorry</body></html>"),
    ],
)
@pytest.mark.parametrize("name", ["a.gz", "a.csv", "a.b"])
def test_an_error_page_is_not_a_file(kind: str, page: bytes, name: str, server: Any, tmp_path: Path) -> None:
    server.content[name] = BODY
    server.faults[name] = [("html", kind, page)]
    with pytest.raises(FetchError, match=f"an HTML page, expected {name}"):
        get(server, tmp_path, name)
    check_nothing_left(tmp_path)


def test_a_gz_name_wants_gzip_bytes(server: Any, tmp_path: Path) -> None:
    server.content |= {"a.gz": b'{"error": "quota"}', "a.zip": BODY, "a.json": b'{"error": "quota"}'}
    for name in ("a.gz", "a.zip"):
        with pytest.raises(FetchError, match=f"bytes b'.*', expected {name}"):
            get(server, tmp_path, name)
    check_nothing_left(tmp_path)
    assert get(server, tmp_path, "a.json").size == 18


def test_wrong_kind() -> None:
    assert wrong_kind("x.csv", b"\n <!doctype HTML>") == "an HTML page"
    assert wrong_kind("x.csv", b"<htmlish,1") is None
    assert wrong_kind("x.GZ", b"\x1f\x8b\x08") is None
    assert wrong_kind("x.GZ", b"") == "bytes b''"


def test_lengths(server: Any, tmp_path: Path) -> None:
    """A length other than the known one is refused before the body is read; no length at all is taken as it comes."""
    server.content |= {"a.gz": BODY, "empty.csv": b""}
    server.faults["a.gz"] = [("short", CUT), ("no length",)]
    with pytest.raises(FetchError, match=f"{CUT} bytes, expected {len(BODY)}"):
        get(server, tmp_path, size=len(BODY))
    check_nothing_left(tmp_path)
    check_whole(get(server, tmp_path, size=len(BODY)), tmp_path)
    with pytest.raises(FetchError, match="0 bytes, expected some"):
        get(server, tmp_path, "empty.csv")


def test_unreachable(server: Any, tmp_path: Path) -> None:
    server.server_close()
    with pytest.raises(FetchError, match=r"cannot be reached \(.*refused\), after 3 attempts") as caught:
        get(server, tmp_path)
    assert caught.value.unreachable


def test_disk_that_fills_while_writing(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frees = iter([10**9, 10**9, 10])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(frees)))
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("no length",)]
    with pytest.raises(FetchError, match=r"0.00 GB are free, 0.00 GB are needed"):
        get(server, tmp_path)
    assert (tmp_path / "a.gz.part").read_bytes() == BODY[: 2 * module.PIECE]


def test_probe(server: Any) -> None:
    server.content["a.gz"] = BODY
    with requests.Session() as session:
        assert probe(session, server.url("a.gz"), QUICK) == len(BODY)
        assert probe(session, server.url("b.gz"), QUICK) is None
        server.head_status = 405
        assert probe(session, server.url("a.gz"), QUICK) is None
        assert probe(session, "http://127.0.0.1:1/a.gz", QUICK) is None
