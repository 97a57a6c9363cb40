"""Commands run in an empty folder, and what they are run on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bm3_pyg.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "demo"
    assert main(["train", "demo", "--out", str(out), "--set", "max_epochs=2"]) == 0
    return out


@pytest.fixture
def bm3(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def assert_refused() -> Callable[..., None]:
    """Checks that a command ended with exit code 2 and one line that holds the given parts."""

    def check(result: tuple[int, str, str], *parts: str) -> None:
        code, out, err = result
        assert code == 2, err
        assert out == ""
        line = err.strip().splitlines()[-1]
        assert "Traceback" not in err
        for part in parts:
            assert part in line

    return check
