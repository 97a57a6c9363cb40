from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from torch_geometric.data import HeteroData

from bm3_pyg.data import describe, fingerprint, load_dataset
from bm3_pyg.data.prepared import is_prepared, read_card, write_prepared
from bm3_pyg.data.summary import facts
from bm3_pyg.errors import DataError, WriteError

SETTINGS = {"split": "random", "seed": 0}


@pytest.fixture
def data() -> HeteroData:
    return load_dataset("demo")


def write(data: HeteroData, out: Path, **options: Any) -> None:
    source = out.parent / "clicks.csv"
    source.write_text("some clicks")
    steps = [{"step": "read", "dropped": 0, "left": 9}, {"step": "5-core", "dropped": 2, "left": 7}]
    write_prepared(data, out, **{"settings": SETTINGS, "sources": {"clicks.csv": source}, "steps": steps, **options})


def test_the_folder_loads_as_the_data_and_the_card_says_so(tmp_path: Path, data: HeteroData) -> None:
    write(data, tmp_path / "out", about="Whence it came.")
    loaded, card = load_dataset(tmp_path / "out"), read_card(tmp_path / "out")
    assert card["fingerprint"] == fingerprint(loaded) == fingerprint(data)
    told = describe(loaded)
    for key in ("users", "items", "splits", "split_users", "degrees", "sparsity", "modalities", "leaks", "duplicates"):
        assert card[key] == told[key]
    assert card["settings"] == SETTINGS
    assert card["sources"] == {"clicks.csv": {"bytes": 11, "sha256": hashlib.sha256(b"some clicks").hexdigest()}}
    on_disk = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(on_disk) == {*card["files"], "card.json", "README.md"}
    for name, file in card["files"].items():
        assert file == {"bytes": len(on_disk[name]), "sha256": hashlib.sha256(on_disk[name]).hexdigest()}
    assert card["versions"]["torch-geometric"]
    text = (tmp_path / "out" / "README.md").read_text()
    for part in ("# demo", "Whence it came.", "30,000", "5-core", card["fingerprint"], *card["notes"]):
        assert part in text


def test_facts_have_dates_where_times_are_known(data: HeteroData) -> None:
    card = describe(data)
    assert not any("dates" in name for name, _ in facts(card))
    card["time"] = {"test": [86_400, 1_400_000_000]}
    assert dict(facts(card))["dates of test, UTC"] == "1970-01-02 to 2014-05-13"


def test_writing_again_gives_the_same_bytes(tmp_path: Path, data: HeteroData) -> None:
    for out in ("one", "two"):
        write(data, tmp_path / out)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_is_prepared(tmp_path: Path, data: HeteroData) -> None:
    out, clicks, other = tmp_path / "out", tmp_path / "clicks.csv", tmp_path / "other.csv"
    assert not is_prepared(out, SETTINGS, {})
    out.mkdir()
    assert not is_prepared(out, SETTINGS, {})
    write(data, out)
    other.touch()
    assert is_prepared(out, SETTINGS, {"clicks.csv": clicks, "unused.csv": other})
    assert is_prepared(out, SETTINGS, {})
    for changed, message in (
        ({**SETTINGS, "seed": 1}, "was prepared with seed 0, not 1; remove it or choose another folder"),
        ({**SETTINGS, "core": 5}, "was prepared with core None, not 5"),
        ({"seed": 0}, "was prepared with split 'random', not None"),
    ):
        with pytest.raises(DataError, match=message):
            is_prepared(out, changed, {})
    clicks.write_text("same bytes.")
    with pytest.raises(DataError, match=r"was prepared from another clicks\.csv than .*clicks\.csv; remove it"):
        is_prepared(out, SETTINGS, {"clicks.csv": clicks})


def test_what_cannot_be_written_is_found_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"out: .*file cannot be written to, expected a folder that can"):
        is_prepared(tmp_path / "file" / "new" / "out", SETTINGS, {})
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(DataError, match=rf"out: {tmp_path} cannot be written to"):
        is_prepared(tmp_path / "new" / "out", SETTINGS, {})


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"schema": 99}', "\x00"])
def test_a_folder_that_is_not_ours(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "other").touch()
    if text is not None:
        (tmp_path / "card.json").write_text(text)
    with pytest.raises(
        DataError, match=r"exists but has no card\.json of schema 1, expected a prepared or a new folder"
    ):
        is_prepared(tmp_path, SETTINGS, {})


@pytest.mark.parametrize(
    "part", ['"settings": []', '"sources": "x"', '"sources": {"a": 1}', '"sources": {"a": {"bytes": 1}}']
)
def test_a_card_that_is_damaged(tmp_path: Path, part: str) -> None:
    (tmp_path / "card.json").write_text('{"schema": 1, "settings": {}, "sources": {}, ' + part + "}")
    with pytest.raises(DataError, match=r"card\.json: damaged, expected the settings and sources; remove the folder"):
        is_prepared(tmp_path, SETTINGS, {"a": tmp_path / "card.json"})


def test_the_disk_is_full(tmp_path: Path, data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("737280 requested and 435168 written")  # as numpy says it

    monkeypatch.setattr("numpy.save", full)
    with pytest.raises(WriteError, match=r"out: cannot be written \(737280 requested and 435168 written\)$"):
        write(data, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["clicks.csv"]


def test_nothing_is_left_when_it_fails(tmp_path: Path, data: HeteroData) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "kept").touch()
    with pytest.raises(WriteError, match="out: cannot be written"):
        write(data, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clicks.csv", "out"]
    with pytest.raises(TypeError):
        write(data, tmp_path / "new", settings={"seed": object()})
    assert not (tmp_path / "new").exists()
