"""Files into a folder: what is there afterwards, whatever the server and the user do."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bm3_pyg.data import download_folder as module
from bm3_pyg.data.download_folder import LOCK, RECORD, Remote, download
from bm3_pyg.data.http_file import Retry
from bm3_pyg.errors import ConfigError, DataError, WriteError

QUICK = Retry(attempts=2, first_wait=0.001, longest_wait=0.002, connect_timeout=5.0, read_timeout=5.0)
BODY = b"\x1f\x8b" + np.random.default_rng(0).bytes(200_000)
OTHER = b"\x1f\x8b" + np.random.default_rng(1).bytes(200_000)
SHA, OTHER_SHA = hashlib.sha256(BODY).hexdigest(), hashlib.sha256(OTHER).hexdigest()
CUT = 70_000
# Downloads need no PyTorch, which the package above imports and which takes seconds to load.
CHILD = f"""
import sys, types
sys.modules["bm3_pyg.data"] = package = types.ModuleType("bm3_pyg.data")
package.__path__ = [{str(Path(module.__file__).parent)!r}]
from bm3_pyg.data import download_folder as module
from bm3_pyg.data.download_folder import Remote, download
download([Remote("a.gz", sys.argv[1])], sys.argv[2])
"""


def get(server: Any, folder: Path, *names: str, **options: Any) -> list[Path]:
    return download([Remote(name, server.url(name)) for name in names or ("a.gz",)], folder, retry=QUICK, **options)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {LOCK}


def record(folder: Path, name: str = "a.gz") -> dict[str, Any]:
    entry = json.loads((folder / RECORD).read_text())[name]
    assert isinstance(entry, dict)
    return entry


def test_fetched_once_and_recorded(server: Any, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "raw"
    server.content |= {"a.gz": BODY, "b.csv": b"u,i,5,1\n"}
    server.faults["a.gz"] = [("drop", CUT)]
    assert get(server, folder, "a.gz", "b.csv") == [folder / "a.gz", folder / "b.csv"]
    assert ((folder / "a.gz").read_bytes(), (folder / "b.csv").read_bytes()) == (BODY, b"u,i,5,1\n")
    assert left(folder) == {"a.gz", "b.csv", RECORD}
    entry = record(folder)
    assert (entry["url"], entry["size"], entry["sha256"]) == (server.url("a.gz"), len(BODY), SHA)
    assert entry["etag"]
    assert entry["date"].endswith("+00:00")
    asked = len(server.asked)
    get(server, folder, "a.gz", "b.csv")
    get(server, folder, "a.gz", offline=True)
    assert len(server.asked) == asked


def test_a_file_that_differs_from_its_record_is_refused(server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    get(server, tmp_path)
    (tmp_path / "a.gz").write_bytes(OTHER)
    with pytest.raises(DataError, match=rf"{OTHER_SHA}, expected {len(BODY)} bytes with SHA-256 {SHA}; .*--force"):
        get(server, tmp_path)
    assert (tmp_path / "a.gz").read_bytes() == OTHER, "it is the user's to delete"
    (tmp_path / RECORD).write_text("{}")
    get(server, tmp_path)
    assert record(tmp_path)["sha256"] == OTHER_SHA
    get(server, tmp_path, force=True)
    assert (tmp_path / "a.gz").read_bytes() == BODY
    assert record(tmp_path)["sha256"] == SHA


def test_a_file_put_there_by_hand_is_taken_and_recorded(server: Any, tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(BODY)
    get(server, tmp_path, offline=True)
    assert (record(tmp_path)["url"], record(tmp_path)["sha256"]) == (None, SHA)
    (tmp_path / "b.gz").write_bytes(BODY)
    with pytest.raises(DataError, match=f"b.gz: .* with SHA-256 {SHA}, expected SHA-256 {OTHER_SHA}; delete the file"):
        download([Remote("b.gz", server.url("b.gz"), sha256=OTHER_SHA)], tmp_path)
    (tmp_path / "page.gz").write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match=r"page\.gz: an HTML page, expected page\.gz"):
        get(server, tmp_path, "page.gz")
    assert server.asked == []


def test_a_record_of_a_file_by_hand_binds_no_download(server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    (tmp_path / "a.gz").write_bytes(OTHER)
    get(server, tmp_path)
    (tmp_path / "a.gz").unlink()
    get(server, tmp_path)
    assert record(tmp_path)["url"] == server.url("a.gz")
    assert (tmp_path / "a.gz").read_bytes() == BODY


@pytest.mark.parametrize("fault", [("flip",), ("short", CUT)])
def test_corrupted_content_is_fetched_once_more_and_never_becomes_a_file(
    fault: tuple[Any, ...], server: Any, tmp_path: Path
) -> None:
    remote = Remote("a.gz", server.url("a.gz"), sha256=SHA)
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [fault]
    download([remote], tmp_path / "once", retry=QUICK)
    assert (tmp_path / "once" / "a.gz").read_bytes() == BODY
    server.faults["a.gz"] = [fault] * 2
    with pytest.raises(DataError, match=f"with SHA-256 [0-9a-f]{{64}}, expected SHA-256 {SHA}"):
        download([remote], tmp_path / "twice", retry=QUICK)
    assert left(tmp_path / "twice") == set()
    assert len(server.ranges("a.gz")) == 4


def test_a_corrupted_part_is_fetched_again(server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("drop", CUT), ("status", 404, {})]
    with pytest.raises(DataError, match="HTTP 404"):
        get(server, tmp_path)
    (tmp_path / "a.gz.part").write_bytes(bytes(CUT))
    download([Remote("a.gz", server.url("a.gz"), sha256=SHA)], tmp_path, retry=QUICK)
    assert (tmp_path / "a.gz").read_bytes() == BODY
    assert server.ranges("a.gz")[2:] == [f"bytes={CUT}-", None]


@pytest.mark.parametrize("body", [OTHER, OTHER[:-1]])
def test_a_deleted_file_must_come_back_as_recorded(body: bytes, server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    get(server, tmp_path)
    (tmp_path / "a.gz").unlink()
    server.content["a.gz"] = body
    with pytest.raises(DataError, match=r"bytes.*, expected 200002 .*--force accepts the new content"):
        get(server, tmp_path)
    assert left(tmp_path) == {RECORD}
    get(server, tmp_path, force=True)
    assert (tmp_path / "a.gz").read_bytes() == body
    assert record(tmp_path)["size"] == len(body)


def test_a_refusal_says_what_to_do(server: Any, tmp_path: Path) -> None:
    server.content |= {"a.gz": BODY, "c.gz": BODY}
    with pytest.raises(DataError) as caught:
        get(server, tmp_path, "a.gz", "b.gz", "c.gz")
    url = server.url("b.gz")
    assert str(caught.value) == (
        f"{url}: HTTP 404 Not Found; these are missing: put into {tmp_path} b.gz ({url}), "
        "or give another address by --url b.gz=URL"
    )
    assert left(tmp_path) == {"a.gz", RECORD}
    assert len(server.ranges("b.gz")) == 1


def test_an_error_page_leaves_nothing(server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("html", "text/html", b"Sorry")]
    with pytest.raises(DataError, match=r"an HTML page, expected a\.gz"):
        get(server, tmp_path)
    assert left(tmp_path) == set()


def test_without_the_network(server: Any, tmp_path: Path) -> None:
    """Offline on purpose or not, the message lists every missing file with its address."""
    server.content["a.gz"] = BODY
    get(server, tmp_path)
    names = ("a.gz", "b.gz", "c.csv")
    wanted = f"put into {tmp_path} b.gz ({server.url('b.gz')}), c.csv ({server.url('c.csv')})"
    with pytest.raises(DataError) as offline:
        get(server, tmp_path, *names, offline=True)
    assert str(offline.value) == f"offline, and these are missing: {wanted}"
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError) as unreachable:
        get(server, tmp_path, *names)
    assert "cannot be reached" in str(unreachable.value)
    assert wanted in str(unreachable.value)
    with pytest.raises(ConfigError, match="offline and force"):
        get(server, tmp_path, offline=True, force=True)


def test_disk_space_is_checked_before_anything_is_fetched(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content |= {"a.gz": BODY, "b.gz": BODY}
    server.faults["a.gz"] = [("drop", CUT), ("status", 404, {})]
    with pytest.raises(DataError):
        get(server, tmp_path)
    asked = len(server.ranges("a.gz"))
    free = 2 * len(BODY) - CUT
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free - 1))
    with pytest.raises(
        DataError, match=r"0.00 GB are free, 0.00 GB are needed: the disk of .* is full; .*a\.gz, b\.gz"
    ):
        get(server, tmp_path, "a.gz", "b.gz")
    assert (len(server.ranges("a.gz")), server.ranges("b.gz")) == (asked, [])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    get(server, tmp_path, "a.gz", "b.gz")
    assert left(tmp_path) == {"a.gz", "b.gz", RECORD}


def test_a_full_disk_keeps_the_part(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("drop", CUT)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WriteError, match="the disk is full"):
            get(server, tmp_path)
    get(server, tmp_path)
    assert (tmp_path / "a.gz").read_bytes() == BODY


def test_a_killed_download_is_continued(server: Any, tmp_path: Path) -> None:
    server.content["a.gz"] = BODY
    server.faults["a.gz"] = [("stall", CUT)]
    part = tmp_path / "a.gz.part"
    with subprocess.Popen([sys.executable, "-c", CHILD, server.url("a.gz"), str(tmp_path)]) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None and not (part.exists() and part.stat().st_size):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    server.release.set()
    kept = part.stat().st_size
    assert part.read_bytes() == BODY[:kept]
    assert 0 < kept <= CUT
    assert not (tmp_path / "a.gz").exists()
    get(server, tmp_path)
    assert server.ranges("a.gz") == [None, f"bytes={kept}-"]
    assert (tmp_path / "a.gz").read_bytes() == BODY
    assert left(tmp_path) == {"a.gz", RECORD}


def test_many_at_once_fetch_once(server: Any, tmp_path: Path) -> None:
    server.content |= {"a.gz": BODY, "b.gz": OTHER}
    server.faults["a.gz"] = [("drop", CUT)]
    errors: list[BaseException] = []

    def work() -> None:
        try:
            get(server, tmp_path, "a.gz", "b.gz")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert ((tmp_path / "a.gz").read_bytes(), (tmp_path / "b.gz").read_bytes()) == (BODY, OTHER)
    assert (len(server.ranges("a.gz")), len(server.ranges("b.gz"))) == (2, 1)


def test_a_folder_that_cannot_be_written_may_hold_everything(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gz").write_bytes(BODY)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert get(server, tmp_path) == [tmp_path / "a.gz"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.gz"}
    with pytest.raises(DataError, match=r"a\.gz: cannot be written"):
        get(server, tmp_path / "a.gz")


@pytest.mark.parametrize(
    "name",
    ["../a.gz", "/a.gz", "b/a.gz", "..", ".", "", "b\\a.gz", "C:a.gz", ".a", RECORD, "a.part", "a\0.gz", "a\n.gz"],
)
def test_only_plain_names(name: str, server: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a plain file name"):
        get(server, tmp_path / "folder", name)
    assert left(tmp_path) == set()


@pytest.mark.parametrize("url", ["ftp://host/a", "file:///etc/passwd", "/a", "http:///a", ""])
def test_only_http(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected http:// or https://"):
        download([Remote("a", url)], tmp_path)


def test_a_name_stands_once(server: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'a\.gz': stands twice"):
        get(server, tmp_path, "a.gz", "a.gz")


@pytest.mark.parametrize("text", ["", "[]", '{"a.gz": {}}', '{"a.gz": 3}'])
def test_a_broken_record_is_named(text: str, server: Any, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(text)
    (tmp_path / "a.gz").write_bytes(BODY)
    with pytest.raises(DataError, match=f"{RECORD}: not a record of downloads; delete it"):
        get(server, tmp_path)
