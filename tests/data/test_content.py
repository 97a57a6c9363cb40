from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bm3_pyg.data import fingerprint, load_dataset
from bm3_pyg.data.content import is_table, located, read_content, streams_kept, table_name
from bm3_pyg.data.table import read_table
from bm3_pyg.errors import DataError

CLICKS = b"user,item\n" + b"".join(b"u%d,i%d\n" % (user, item) for user in range(4) for item in range(5))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
Piped = Callable[[bytes], Path]


@pytest.fixture
def piped(tmp_path: Path) -> Piped:
    """A named pipe into which something is written once."""

    def make(raw: bytes) -> Path:
        os.mkfifo(path := tmp_path / f"pipe{len(list(tmp_path.iterdir()))}")
        threading.Thread(target=path.write_bytes, args=(raw,), daemon=True).start()
        return path

    return make


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("kind", [".csv", ".tsv"])
def test_compressed_tables(tmp_path: Path, suffix: str, kind: str) -> None:
    plain, packed = tmp_path / f"clicks{kind}", tmp_path / f"clicks{kind}{suffix}"
    plain.write_bytes(CLICKS.replace(b",", b"\t") if kind == ".tsv" else CLICKS)
    packed.write_bytes(COMPRESS[suffix](plain.read_bytes()))
    data, expected = load_dataset(packed), load_dataset(plain)
    assert fingerprint(data) == fingerprint(expected)
    assert data.name == "clicks"
    assert data.files == {packed.name: hashlib.sha256(packed.read_bytes()).hexdigest()}
    assert data.source == {"source": str(packed)}


def test_a_compressed_file_needs_no_name_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_bytes(gzip.compress(CLICKS[:40]) + gzip.compress(CLICKS[40:]))
    assert read_content(tmp_path / "clicks.csv").raw == CLICKS


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_compressed_file_that_is_cut_off(tmp_path: Path, suffix: str, part: float) -> None:
    raw = COMPRESS[suffix](os.urandom(2000))
    (tmp_path / f"x.csv{suffix}").write_bytes(raw[: int(part * len(raw))])
    with pytest.raises(DataError, match=rf"x\.csv{suffix}: damaged or cut off, expected a whole {suffix} file"):
        read_content(tmp_path / f"x.csv{suffix}")


@pytest.mark.parametrize(
    ("start", "found"), [(b"PK\x03\x04", "a zip archive or a spreadsheet"), (b"\x28\xb5\x2f\xfd", "zstd")]
)
def test_what_cannot_be_unpacked(tmp_path: Path, start: bytes, found: str) -> None:
    (tmp_path / "x.csv").write_bytes(start + b"more")
    with pytest.raises(DataError, match=rf"x\.csv: is .*{found}, expected a \.csv"):
        load_dataset(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (CLICKS.decode().encode("utf-16"), "is UTF-16 .*iconv"),
        (CLICKS.decode().encode("utf-16-le"), "line 1: a NUL byte"),
        (b"user,item\na,b\nc\0,d\n", "line 3: a NUL byte"),
        (b"user,item\na,b\nc\xe9,d\n", "line 3: byte 0xe9 is not UTF-8"),
    ],
)
def test_other_encodings(tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "x.csv").write_bytes(raw)
    with pytest.raises(DataError, match=rf"x\.csv: {message}"):
        load_dataset(tmp_path / "x.csv")


@pytest.mark.parametrize(
    "write",
    [
        lambda raw: raw,
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b",", b"\t"),
        lambda raw: raw.replace(b",", b";"),
        gzip.compress,
        lambda raw: re.sub(rb"(.+),(.+)\n", rb'{"user": "\1", "item": "\2"}\n', raw.split(b"\n", 1)[1]),
    ],
)
def test_a_pipe_is_read_once_and_its_first_bytes_tell_what_it_is(
    tmp_path: Path, piped: Piped, write: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "clicks.csv").write_bytes(CLICKS)
    features = piped(b"item,x\n" + b"".join(b"i%d,%d\n" % (item, item) for item in range(5)))
    pipe = piped(write(CLICKS))
    data = load_dataset(pipe, features={"f": features})
    assert data["item"].f.ravel().tolist() == [0, 1, 2, 3, 4]
    del data["item"].f, data["item"].f_missing
    assert fingerprint(data) == fingerprint(load_dataset(tmp_path / "clicks.csv"))
    assert data.name == "pipe"
    with pytest.raises(DataError, match=rf"<{pipe}>: was a pipe, which can be read only once; save"):
        load_dataset(**data.source)


def test_what_was_read_of_a_pipe_is_kept_for_a_while(piped: Piped) -> None:
    pipe = piped(b"once")
    with streams_kept():
        with streams_kept():
            assert read_content(pipe).raw == b"once"
        assert read_content(pipe).raw == b"once"
    threading.Thread(target=pipe.write_bytes, args=(b"again",), daemon=True).start()
    assert read_content(pipe).raw == b"again"


def test_names() -> None:
    assert [table_name(Path(name)) for name in ("a/b.csv", "b.csv.gz", "b.JSONL.XZ", "b.c.tsv")] == [
        "b",
        "b",
        "b",
        "b.c",
    ]
    assert located("-") == Path("/dev/stdin")
    assert not any(is_table(Path(name)) for name in ("a.npy", "a.gz", "a", "a.txt.gz", ".csv/x"))


def test_nothing_to_read(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "none", "no such file"),
        (Path("/dev/null"), "the file is empty"),
        (Path("a\0b.csv"), "no such file"),
    ):
        with pytest.raises(DataError, match=message):
            read_table(path)
