from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import pytest

from bm3_pyg.data.amazon import lines
from bm3_pyg.data.amazon.lines import Malformed, decoded, line_chunks
from bm3_pyg.errors import DataError


@pytest.mark.parametrize("piece", [1, 5, 64, 1 << 20])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("text", [b"a\nbb\n\nccc\n", b"a\nbb\nno newline", b"\n\n\n", b"one", b"x" * 50 + b"\ny\n"])
def test_pieces_are_whole_lines_and_know_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, packed: bool, text: bytes
) -> None:
    monkeypatch.setattr(lines, "PIECE", piece)
    path = tmp_path / "some.txt"
    path.write_bytes(gzip.compress(text) if packed else text)
    chunks = list(line_chunks(path))
    assert b"".join(chunk for _, chunk in chunks) == text
    done = b""
    for first, chunk in chunks:
        assert first == 1 + done.count(b"\n")
        done += chunk
        assert done.endswith(b"\n") or done == text


def test_several_gzip_members_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfa\nb") + gzip.compress(b"c\n"))
    assert list(line_chunks(path)) == [(1, b"a\nbc\n")]


def test_truncated_gzip_names_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "cut.json.gz"
    whole = gzip.compress(b"".join(b"line %d\n" % (n * n) for n in range(5000)))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        DataError, match=r"cut\.json\.gz: the compressed data end early, about line (\d,\d+); download"
    ) as e:
        list(line_chunks(path))
    assert 1500 < int(str(e.value).split("line ")[1].split(";")[0].replace(",", "")) < 3500


def test_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "bad.gz"
    whole = bytearray(gzip.compress(b"".join(b"line %d\n" % (n * n) for n in range(500))))
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"bad\.gz: damaged \(.*\), about line \d+; download it again"):
        list(line_chunks(path))


def test_no_file_a_folder_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, what in (("none", "no such file"), ("", "is a folder"), ("empty", "the file is empty")):
        with pytest.raises(DataError, match=what):
            list(line_chunks(tmp_path / name))


def test_a_line_without_end_is_refused_before_it_fills_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "PIECE", 1 << 10)
    monkeypatch.setattr(lines, "LONGEST", 1 << 11)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"short\n" + bytes(1 << 20)))
    chunks = line_chunks(path)
    assert next(chunks) == (1, b"short\n")
    with pytest.raises(DataError, match="line 2 is longer than"):
        next(chunks)


@pytest.mark.parametrize(
    ("lines_in_all", "bad", "tolerance", "passes"),
    [
        (100, 10, 0.0, True),
        (100, 11, 0.0, False),
        (100, 11, 0.2, True),
        (10, 5, 0.0, True),
        (10, 6, 0.0, False),
        (1, 1, 0.001, False),
        (100_000, 100, 0.001, True),
        (100_000, 101, 0.001, False),
        (7, 0, 0.0, True),
    ],
)
def test_tolerance(lines_in_all: int, bad: int, tolerance: float, passes: bool) -> None:
    malformed = Malformed(Path("folder/x.csv"), tolerance)
    for number in range(bad):
        malformed.add(number + 1, "odd")
    if not passes:
        with pytest.raises(DataError, match=rf"^folder/x\.csv: {bad} of {lines_in_all:,} lines malformed, expected"):
            malformed.notes(lines_in_all)
    elif bad:
        (note,) = malformed.notes(lines_in_all)
        assert note.startswith(
            f"x.csv: {bad} of {lines_in_all:,} lines malformed and skipped (line 1: odd; line 2: odd"
        )
        assert note.count("odd") == min(bad, 3)
    else:
        assert malformed.notes(lines_in_all) == []


def test_decoded() -> None:
    assert decoded("Café 🍼".encode()) == "Café 🍼"
    with pytest.raises(ValueError, match="byte 0xff is not UTF-8"):
        decoded(b"ab\xffc")


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_shows_on_a_terminal_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    path = tmp_path / "some.txt"
    path.write_bytes(b"line\n" * 400)
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    list(line_chunks(path))
    assert ("some.txt: " in screen.getvalue()) == terminal
    assert terminal or screen.getvalue() == ""
