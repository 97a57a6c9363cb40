"""Nothing but text goes to a terminal, and a command ends in words when it cannot print."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from bm3_pyg.cli.terminal import OutputError, line, printing
from bm3_pyg.escape import printable

Run = Callable[..., tuple[int, str, str]]
EVIL = "x\x1b]0;title\x07\x1b[2J\x9b1A\x7f\u202e\u2028"


def test_control_characters_are_escaped_and_text_is_not() -> None:
    assert printable("a\tb\nné ü 漢 🙂") == "a\tb\nné ü 漢 🙂"
    assert printable(EVIL) == r"x\x1b]0;title\x07\x1b[2J\x9b1A\x7f\u202e\u2028"
    assert printable("\udc80\r\0") == r"\udc80\r\x00"
    assert line("a\nb\tc") == r"a\nb\tc"


def test_ids_are_escaped_in_what_is_printed_and_kept_in_what_is_written(bm3: Run, tmp_path: Path) -> None:
    evil = EVIL.replace("\u2028", "")
    rows = [(f"u{u}", f"{evil}{(u + j) % 8}") for u in range(12) for j in range(6)]
    name = f"{evil}clicks.csv"
    pl.DataFrame(rows, schema=["user", "item"], orient="row").write_csv(tmp_path / name)
    code, out, err = bm3("train", name, "--out", "run", "--set", "max_epochs=1")
    assert code == 0, err
    Path("ids.txt").write_text(f"{evil}0\n{evil}1\n{evil}99\n", encoding="utf-8")
    printed = [out, err]
    for command in (
        ["similar", "run", "--items", "ids.txt"],
        ["similar", "run", "--items", "ids.txt", "--strict"],
        ["recommend", "run", "--candidates", "ids.txt", "--out", "lists.csv"],
        ["recommend", "run", "--users", evil],
        ["evaluate", "run"],
        ["data", "describe", name],
        ["train", evil],
        ["train", "demo", "--set", evil],
        ["train", "demo", "--model", evil],
        ["report", evil, "--out", "r.html"],
        ["sweep", name, "--out", evil, "--models", "popularity", "--seeds", "1"],
    ):
        printed += bm3(*command)[1:]
    for text in printed:
        assert printable(text) == text
    assert all(item.startswith(evil) for item in pl.read_csv("lists.csv")["item"])


def bm3_in_a_shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    script = command.replace("BM3", f"{sys.executable} -m bm3_pyg.cli")
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        cwd=folder,
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("BM3 models bm3 | true", (0, 141), b""),
        ("BM3 models bm3 2>&1 | true", (0, 141), b""),
        ("BM3 models bm3 > /dev/full", (2,), b"bm3: standard output: cannot be written (No space left on device)"),
        ("BM3 --help > /dev/full", (2,), b"bm3: standard output: cannot be written (No space left on device)"),
        ("BM3 models bm3 >&-", (0,), b""),
        ("BM3 models bm3 2>&-", (0,), b""),
        ("BM3 fly 2>&-", (2,), b""),
        ("BM3 fly 2>/dev/full", (2,), b""),
    ],
)
def test_output_that_nobody_takes(tmp_path: Path, command: str, code: tuple[int, ...], message: bytes) -> None:
    ended = bm3_in_a_shell(command, tmp_path)
    assert ended.returncode in code
    assert ended.stderr.strip() == message


def test_a_terminal_that_knows_ascii_only(tmp_path: Path) -> None:
    ended = bm3_in_a_shell("BM3 train 'nö漢'", tmp_path, PYTHONIOENCODING="ascii")
    assert ended.returncode == 2
    assert ended.stderr.startswith(rb"bm3: n\xf6\u6f22: no such file")


def test_a_bar_may_begin_its_line_anew_on_standard_error_only(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with printing():
        print("\ra\rb")
        print("\ra\rb", file=sys.stderr)
    assert [stream.getvalue() for stream in streams] == ["\\ra\\rb\n", "\ra\\rb\n"]


def test_a_full_disk_is_an_error_of_the_output(tmp_path: Path) -> None:
    script = "import sys; from bm3_pyg.cli.terminal import printing\nwith printing(): print('x')"
    ended = bm3_in_a_shell(f'{sys.executable} -c "{script}" > /dev/full', tmp_path)
    assert ended.stderr.splitlines()[-1].startswith(OutputError.__module__.encode())
