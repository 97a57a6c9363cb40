"""Archives from outside: all of it in the folder, or nothing anywhere."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bm3_pyg.data.archive import extract
from bm3_pyg.errors import DataError

FILES = {"baby/reviews.json.gz": b"\x1f\x8b" + bytes(3000), "baby/image.b": b"abc", "ratings.csv": b""}
OUTSIDE = ["../x", "a/../../x", "/x", "/etc/x", "..\\x", "a\\x", "C:x", "C:/x", "//host/share/x", "..", "a/.."]
TARS = {".tar": "w", ".tar.gz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def make_zip(path: Path, files: dict[str, bytes], mode: int | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode or 0) << 16
            archive.writestr(info, body, compress_type=zipfile.ZIP_DEFLATED)
    return path


def make_tar(path: Path, files: dict[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    with tarfile.open(path, TARS["".join(path.suffixes)]) as archive:  # type: ignore[call-overload]
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o4777
            info.size = len(body) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(body))
    return path


def check_refused(archive: Path, message: str, **bounds: Any) -> None:
    """The error says why, and only what was there before is there."""
    folder = archive.parent / "out" / "raw"
    folder.parent.mkdir(exist_ok=True)
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(DataError, match=message) as caught:
        extract(archive, folder, **bounds)
    assert "\n" not in str(caught.value)
    assert str(archive) in str(caught.value)
    assert sorted(archive.parent.rglob("*")) == before


@pytest.mark.parametrize("suffix", [".zip", *TARS])
def test_everything_arrives(suffix: str, tmp_path: Path) -> None:
    archive = tmp_path / f"raw{suffix}"
    (make_zip if suffix == ".zip" else make_tar)(archive, FILES)
    disguised = archive.rename(tmp_path / "raw.bin")
    folder = tmp_path / "out" / "raw"
    assert extract(disguised, folder) == [folder / name for name in FILES]
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == FILES
    (tmp_path / "plain").write_text("")
    assert {p.stat().st_mode for p in folder.rglob("*") if p.is_file()} == {(tmp_path / "plain").stat().st_mode}


def test_folders_and_dots(tmp_path: Path) -> None:
    """What ``tar -C DIR .`` and ``zip -r`` write."""
    source = tmp_path / "source"
    (source / "baby" / "empty").mkdir(parents=True)
    (source / "baby" / "a.csv").write_text("1")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(source, arcname=".")
    shutil.make_archive(str(tmp_path / "b"), "zip", source)
    for archive in ("a.tar.gz", "b.zip"):
        folder = tmp_path / archive.replace(".", "_")
        folder.mkdir()
        assert extract(tmp_path / archive, folder) == [folder / "baby" / "a.csv"]
        assert (folder / "baby" / "empty").is_dir()


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_outside(name: str, tmp_path: Path) -> None:
    files = {"good.csv": b"1", name: b"evil"}
    message = "leads outside the folder, expected a relative name without"
    check_refused(make_zip(tmp_path / "a.zip", files), message)
    check_refused(make_tar(tmp_path / "a.tar.gz", files), message)


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "good.csv"])
def test_no_links(target: str, tmp_path: Path) -> None:
    check_refused(make_zip(tmp_path / "a.zip", {"s": target.encode()}, stat.S_IFLNK | 0o777), "entry 's': a link")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        check_refused(make_tar(tmp_path / "a.tar", {"s": b""}, kind, target), "entry 's': a link")


def test_no_devices(tmp_path: Path) -> None:
    check_refused(make_zip(tmp_path / "a.zip", {"d": b""}, stat.S_IFCHR | 0o666), "entry 'd': a device")
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        check_refused(make_tar(tmp_path / "a.tar", {"d": b""}, kind), "entry 'd': a device")


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"a": bytes(600_000), "b": bytes(600_000)}
    for archive in (make_zip(tmp_path / "a.zip", files), make_tar(tmp_path / "a.tar.gz", files)):
        assert archive.stat().st_size < 5_000
        check_refused(archive, "entry 'b': 600000 bytes, expected at most the 400000 of 1000000", max_bytes=1_000_000)
        check_refused(archive, "more than 1 entries", max_files=1)
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=599_999))
            check_refused(archive, "entry 'a': 600000 bytes, expected at most the 599999 bytes on the disk")


def test_a_zip_that_lies_about_its_size(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a": bytes(600_000)})
    raw = archive.read_bytes()
    size = (600_000).to_bytes(4, "little")
    assert raw.count(size) == 2
    archive.write_bytes(raw.replace(size, (10).to_bytes(4, "little")))
    check_refused(archive, "cannot be unpacked|claims to hold")


def test_the_same_name_twice(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("a", "./a"):
            tar.addfile(tarfile.TarInfo(name))
    check_refused(tmp_path / "a.tar", "entry './a': stands twice")
    check_refused(make_tar(tmp_path / "b.tar", {"a": b"1", "a/b": b"2"}), "entry 'a/b': is in a folder whose name")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.xz", ".tar"])
def test_cut_short(suffix: str, tmp_path: Path) -> None:
    archive = tmp_path / f"a{suffix}"
    body = {"a": os.urandom(50_000), "b": os.urandom(50_000)}
    (make_zip if suffix == ".zip" else make_tar)(archive, body)
    with archive.open("rb+") as file:
        file.truncate(60_000)
    check_refused(archive, "cannot be unpacked|neither|less than")


def test_a_flipped_byte_in_a_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a": os.urandom(50_000)})
    raw = bytearray(archive.read_bytes())
    raw[25_000] ^= 1
    archive.write_bytes(raw)
    check_refused(archive, "cannot be unpacked")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a": b"secret"})
    raw = bytearray(archive.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + flags] |= 1
    archive.write_bytes(raw)
    check_refused(archive, "cannot be unpacked .*encrypted")


def test_a_zip_packed_in_an_unknown_way(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a": b"packed"})
    raw = bytearray(archive.read_bytes())
    for signature, method in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        raw[raw.index(signature) + method] = 99
    archive.write_bytes(raw)
    check_refused(archive, "cannot be unpacked .*compression")


def test_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"\x1f\x8b not one")
    check_refused(tmp_path / "a.zip", r"neither a \.zip nor a \.tar")
    with pytest.raises(DataError, match="no such file"):
        extract(tmp_path / "b.zip", tmp_path / "out")


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", FILES)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        extract(archive, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["cut", "damaged header"])
def test_a_tar_that_ends_early_is_refused(tmp_path: Path, kind: str, packed: bool) -> None:
    """Python's own reader takes either for the end of the archive, and the files behind it are lost."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("a", "b", "c"):
            info = tarfile.TarInfo(name)
            info.size = 600
            tar.addfile(info, io.BytesIO(name.encode() * 600))
    raw, second = buffer.getvalue(), 3 * 512
    raw = raw[:second] if kind == "cut" else raw[:second] + b"#" + raw[second + 1 :]
    archive = tmp_path / "a.tar"
    archive.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(DataError, match=r"a\.tar: damaged or cut off at byte 1,536"):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_whose_directory_is_damaged_gives_all_or_nothing(tmp_path: Path) -> None:
    """A flipped bit in the length of an entry's comment hides the entries that follow."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("a", "b", "c"):
            packed.writestr(name, name * 99)
    archive, refused = tmp_path / "a.zip", 0
    first = buffer.getvalue().index(b"PK\1\2")
    for byte in range(first, buffer.getvalue().index(b"PK\1\2", first + 1)):
        raw = bytearray(buffer.getvalue())
        raw[byte] = 0 if byte == first + 46 else raw[byte] ^ 0x80  # its name begins there
        archive.write_bytes(raw)
        try:
            found = {path.name: path.read_text() for path in extract(archive, tmp_path / f"{byte}")}
        except DataError as error:
            refused += str(archive) in str(error)
        else:
            assert found == {name: name * 99 for name in "abc"}, byte
    assert refused > 10
