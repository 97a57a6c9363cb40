from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from bm3_pyg.data import PLANTED, fingerprint, load_dataset
from bm3_pyg.errors import ConfigError, DataError


def test_planted_names_win_over_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine.inter").write_text("userID\titemID\tx_label\n0\t0\t0\n")
    monkeypatch.chdir(tmp_path)
    assert load_dataset("demo").name == "demo"
    mine = load_dataset("./demo")
    assert mine.name == "mine"
    assert mine.source == {"source": str(tmp_path / "demo")}


def test_planted_data_loads_the_same_again() -> None:
    data = load_dataset("demo", seed=5)
    assert data.source == {"source": "demo", "seed": 5}
    assert fingerprint(load_dataset(**data.source)) == fingerprint(data)
    assert load_dataset("demo").source == {"source": "demo"}


def test_notes_are_logged_at_each_load(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="bm3_pyg"):
        for _ in range(2):
            data = load_dataset("demo")
    assert len(data.notes) == 2
    assert caplog.messages == data.notes * 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("planted-babi", "no such file, folder or planted name, expected .*did you mean 'planted-baby'"),
        ("nowhere/at/all", f"nowhere/at/all: no such .*{', '.join(sorted(PLANTED))}"),
        ("gone.inter", r"gone\.inter: no such file"),
        ("gone.csv", r"gone\.csv: no such file"),
    ],
)
def test_source_that_is_not_there(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(source)


def test_source_of_an_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "x.xlsx").write_text("")
    with pytest.raises(DataError, match=r"x\.xlsx: not a kind of file known here, expected a folder with one \.inter"):
        load_dataset(tmp_path / "x.xlsx")


@pytest.mark.parametrize("option", ["user", "item", "time", "rating", "label", "split", "items"])
def test_table_options_are_for_tables_only(tmp_path: Path, option: str) -> None:
    (tmp_path / "mine.inter").write_text("userID\titemID\tx_label\n0\t0\t0\n")
    for source in ("demo", str(tmp_path)):
        with pytest.raises(
            ConfigError, match=rf"^{option}: is for .*tables only, but the source is {re.escape(source)}$"
        ):
            load_dataset(source, **{option: "x"})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^features: is for"):
        load_dataset("demo", features={"image": "x.npy"})


def test_a_missing_source_is_named_before_its_options() -> None:
    with pytest.raises(DataError, match="clicks: no such file"):
        load_dataset("clicks", label="fold")
