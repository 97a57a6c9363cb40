from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bm3_pyg.errors import WriteError
from bm3_pyg.files import (
    append_text,
    atomic_file,
    atomic_folder,
    clear_leftovers,
    is_taken,
    locked_folder,
    make_folder,
    write_text,
)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="power cut"):
        _half_a_file(path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder"
    with pytest.raises(RuntimeError, match="power cut"):
        _half_a_folder(path)
    assert list(path.parent.iterdir()) == []
    with atomic_folder(path) as temporary:
        (temporary / "x").write_text("whole")
    assert (path / "x").read_text() == "whole"


def _half_a_file(path: Path) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("power cut")


def _half_a_folder(path: Path) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "x").write_text("half")
        raise RuntimeError("power cut")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_other_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "ours", "")
        with atomic_folder(tmp_path / "our folder"):
            pass
        (tmp_path / "plain").touch()
        (tmp_path / "plain folder").mkdir()
    finally:
        os.umask(before)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "our folder").stat().st_mode == (tmp_path / "plain folder").stat().st_mode


def test_the_umask_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to the process: while it is changed, another thread's files get the wrong permissions."""
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the umask was set"))
    write_text(tmp_path / "a", "")
    with atomic_folder(tmp_path / "b"):
        pass


def test_what_is_taken(tmp_path: Path) -> None:
    assert not is_taken(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    assert not is_taken(tmp_path / "empty")
    assert is_taken(tmp_path)
    (tmp_path / "file").write_text("")
    assert is_taken(tmp_path / "file")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up"),
        (OSError("2560 requested and 2016 written"), "2560 requested and 2016 written"),
        (
            RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"),
            ".*unexpected pos 64 vs 0",
        ),
    ],
)
def test_a_writer_that_fails_is_one_line_with_the_file_and_the_reason(
    tmp_path: Path, error: Exception, reason: str
) -> None:
    def fail(context: object) -> None:
        with context:  # type: ignore[attr-defined]
            raise error

    for context in (atomic_file(tmp_path / "a.pt"), atomic_folder(tmp_path / "a.pt")):
        with pytest.raises(WriteError, match=rf"^{tmp_path}/a\.pt: cannot be written \({reason}\)$"):
            fail(context)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_failure_to_write_goes_on_as_it_was(tmp_path: Path) -> None:
    for error in (ConnectionResetError(errno.ECONNRESET, "reset"), ValueError("wrong"), OSError("no gzip file")):
        with pytest.raises(type(error)) as found, atomic_file(tmp_path / "a"):
            raise error
        assert found.value is error
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "a"):
        (tmp_path / "source").read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for path, reason in (
        (tmp_path / "absent" / "a", "there is no such folder"),
        (tmp_path / "file" / "a", "its folder is a file"),
        (tmp_path / "full", "it is a folder"),
        (tmp_path / ("n" * 256), "the name is too long"),
    ):
        for write in (write_text, append_text):
            with pytest.raises(WriteError, match=rf"{path}: cannot be written \({reason}\)"):
                write(path, "a")
    with (
        pytest.raises(WriteError, match=r"full: cannot be written \(it exists already and is not empty\)"),
        atomic_folder(tmp_path / "full"),
    ):
        pass
    with pytest.raises(WriteError, match=r"file/a: cannot be written \(its folder is a file\)"):
        make_folder(tmp_path / "file" / "a")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "x"]


def test_a_long_name_has_room_for_its_temporary(tmp_path: Path) -> None:
    name = "ä" * 125 + ".txt"  # 254 bytes
    write_text(tmp_path / name, "a")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_failure_within_a_folder_names_the_file_in_its_final_place(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteError, match=rf"^{tmp_path}/out/deep/a: cannot be written \(there is no such folder\)$"),
        atomic_folder(tmp_path / "out") as folder,
    ):
        write_text(folder / "deep" / "a", "a")


def test_what_is_appended_is_there_whole_or_not_at_all(tmp_path: Path, small_files: Callable[[int], Any]) -> None:
    path = tmp_path / "history.jsonl"
    append_text(path, "a" * 60 + "\n")
    with small_files(100), pytest.raises(WriteError, match=r"history\.jsonl: cannot be written \(the file would be"):
        append_text(path, "b" * 60 + "\n")
    append_text(path, "c\n")
    assert path.read_text() == "a" * 60 + "\nc\n"


KILLED = """
import os, signal, sys
from bm3_pyg.files import atomic_file, atomic_folder
with atomic_file(sys.argv[1] + "/best.pt") as file, atomic_folder(sys.argv[1] + "/data") as folder:
    file.write_text("half")
    (folder / "x").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    def killed() -> None:
        subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
        assert sorted(path.name.split(".")[1] for path in tmp_path.iterdir() if path.name[0] == ".") == ["best", "data"]

    killed()
    write_text(tmp_path / "best.pt", "whole")
    with atomic_folder(tmp_path / "data"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", "data"}
    killed()
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", "data"}


def test_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    """Neither another process nor another thread of this one; nor what only looks like it."""
    (tmp_path / ".best.pt.notes").touch()
    held, done = threading.Event(), threading.Event()

    def slow() -> None:
        with atomic_file(tmp_path / "best.pt") as temporary:
            held.set()
            done.wait(60)
            temporary.write_text("slow")

    thread = threading.Thread(target=slow)
    thread.start()
    held.wait(60)
    code = "import sys; from bm3_pyg.files import clear_leftovers; clear_leftovers(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    clear_leftovers(tmp_path)
    write_text(tmp_path / "best.pt", "fast")
    done.set()
    thread.join()
    assert (tmp_path / "best.pt").read_text() == "slow"
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", ".best.pt.notes"}


def test_many_threads_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    failures: list[BaseException] = []

    def write(text: str) -> None:
        try:
            for _ in range(20):
                write_text(path, text)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(letter * 5000,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert path.read_text() in [letter * 5000 for letter in "abcd"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_folder_that_cannot_be_made_is_not_said_to_be_in_use() -> None:
    with pytest.raises(WriteError, match="/proc/run: "), locked_folder("/proc/run"):
        pass
