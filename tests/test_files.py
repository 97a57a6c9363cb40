from __future__ import annotations

from pathlib import Path

import pytest

from bm3_pyg.files import atomic_file, atomic_folder, is_taken, write_text


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="power cut"):
        _half_a_file(path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]
    write_text(path, "new")
    assert path.read_text() == "new"
    (tmp_path / "plain.txt").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


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


def test_what_is_taken(tmp_path: Path) -> None:
    assert not is_taken(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    assert not is_taken(tmp_path / "empty")
    assert is_taken(tmp_path)
    (tmp_path / "file").write_text("")
    assert is_taken(tmp_path / "file")
