from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bm3_pyg.data import describe, fingerprint, load_dataset
from bm3_pyg.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("sound_parquet")

CLICKS = "user,item,when\nann,x,3\nbob,x,1\nann,y,1\nann,z,2\nbob,z,9\nann,w,7\n"


def clicks(tmp_path: Path, text: str | bytes = CLICKS, name: str = "clicks.csv") -> Path:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / name


def refused(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert re.search(message, text), text


def test_numbering_is_by_first_appearance(tmp_path: Path) -> None:
    data = load_dataset(clicks(tmp_path), split="time", time="when")
    rates = data["user", "rates", "item"]
    assert data.name == "clicks"
    assert data["user"].raw_id.tolist() == ["ann", "bob"]
    assert data["item"].raw_id.tolist() == ["x", "y", "z", "w"]
    assert rates.edge_index.tolist() == [[1, 0, 0, 1], [0, 1, 2, 2]]
    assert rates.val_edge_index.tolist() == [[0], [0]]
    assert rates.test_edge_index.tolist() == [[0], [3]]
    assert rates.time.tolist() == [1, 1, 2, 9]


def test_csv_tsv_and_parquet_are_the_same(tmp_path: Path) -> None:
    frame = pl.read_csv(clicks(tmp_path))
    frame.write_csv(tmp_path / "clicks.tsv", separator="\t")
    frame.write_parquet(tmp_path / "clicks.parquet")
    prints = {fingerprint(load_dataset(tmp_path / f"clicks.{kind}")) for kind in ("csv", "tsv", "parquet")}
    assert len(prints) == 1


def test_named_columns_and_ratings(tmp_path: Path) -> None:
    path = clicks(tmp_path, "asin;stars;who\n".replace(";", ",") + "a,5,1\nb,,1\n")
    data = load_dataset(path, user="who", item="asin", rating="stars")
    assert data["user"].raw_id.tolist() == [1]
    np.testing.assert_array_equal(data["user", "rates", "item"].rating.numpy(), [5, np.nan])


@pytest.mark.parametrize(
    ("ids", "expected"), [("1 20 3", [1, 20, 3]), ("1 007 3", ["1", "007", "3"]), ("1 99999999999999999999 2", None)]
)
def test_text_ids_are_integers_only_if_canonical(tmp_path: Path, ids: str, expected: list[object] | None) -> None:
    text = "user,item\n" + "".join(f"u,{one}\n" for one in ids.split())
    assert load_dataset(clicks(tmp_path, text))["item"].raw_id.tolist() == (expected or ids.split())


@pytest.mark.parametrize("kind", [pl.String, pl.Int32, pl.UInt64, pl.Categorical])
def test_parquet_ids(tmp_path: Path, kind: Any) -> None:
    pl.DataFrame({"user": pl.Series(["1", "2"]).cast(kind), "item": [5, 6]}).write_parquet(tmp_path / "x.parquet")
    integers = kind in (pl.Int32, pl.UInt64)
    assert load_dataset(tmp_path / "x.parquet")["user"].raw_id.tolist() == ([1, 2] if integers else ["1", "2"])


def test_unsigned_ids_beyond_int64_stay_text(tmp_path: Path) -> None:
    pl.DataFrame({"user": pl.Series([2**63], dtype=pl.UInt64), "item": [5]}).write_parquet(tmp_path / "x.parquet")
    assert load_dataset(tmp_path / "x.parquet")["user"].raw_id.tolist() == [str(2**63)]


def test_ids_that_are_neither_integers_nor_text(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1.5], "item": [5]}).write_parquet(tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", r"row 1: column 'user' has type Float64 and is 1.5, expected integers or strings")


@pytest.mark.parametrize("labels", ["0 0 0 0 1 2", "train train train train val test", "0 train 0 0 validation 2"])
def test_labels(tmp_path: Path, labels: str) -> None:
    lines = CLICKS.splitlines()
    text = "\n".join([f"{lines[0]},fold", *(f"{a},{b}" for a, b in zip(lines[1:], labels.split(), strict=True))])
    rates = load_dataset(clicks(tmp_path, text), label="fold")["user", "rates", "item"]
    assert rates.edge_index.tolist() == [[0, 1, 0, 0], [0, 0, 1, 2]]
    assert rates.val_edge_index.tolist() == [[1], [2]]
    assert rates.test_edge_index.tolist() == [[0], [3]]


@pytest.mark.parametrize("name", ["items.txt", "items.csv", "items.parquet"])
def test_items_file_fixes_the_numbering_and_adds_cold_items(tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame({"item": ["cold", "w", "z", "y", "x", "cold,er"]})
    writers: dict[str, Any] = {
        "items.txt": lambda path: path.write_text("\r\n".join(frame["item"]) + "\r\n\r\n"),
        "items.csv": frame.write_csv,
        "items.parquet": frame.write_parquet,
    }
    writers[name](tmp_path / name)
    np.save(tmp_path / "image.npy", np.arange(12).reshape(6, 2))
    data = load_dataset(clicks(tmp_path), items=tmp_path / name, features={"image": tmp_path / "image.npy"})
    assert data["item"].raw_id.tolist() == frame["item"].to_list()
    assert data["item"].image[4].tolist() == [8, 9]
    assert describe(data)["cold_items"] >= 2
    assert set(data.files) == {"clicks.csv", name, "image.npy"}


def test_features_from_a_table(tmp_path: Path) -> None:
    (tmp_path / "clicks").mkdir()
    (tmp_path / "clicks" / "clicks.csv").write_text("item,a,b\nz,1,2\nx,3,4\nnot here,5,6\n")
    data = load_dataset(clicks(tmp_path), features={"text": tmp_path / "clicks" / "clicks.csv"})
    assert data["item"].text.tolist() == [[3, 4], [2, 3], [1, 2], [2, 3]]
    assert data["item"].text_missing.tolist() == [False, True, False, True]
    assert data.notes == [
        "text: 2 of 4 items have no feature and were given the mean of the others",
        "text: 1 of 3 rows are of items not in the data and are left out",
    ]
    assert set(data.files) == {"clicks.csv", "clicks/clicks.csv"}


def test_source_loads_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clicks(tmp_path)
    (tmp_path / "f.csv").write_text("item,a\nx,1\n")
    (tmp_path / "items.txt").write_text("x\ny\nz\nw\n")
    monkeypatch.chdir(tmp_path)
    data = load_dataset(
        "clicks.csv", seed=3, split="leave-one-out", features={"f": "f.csv"}, items=Path("items.txt"), time="when"
    )
    assert data.source == {
        "source": str(tmp_path / "clicks.csv"),
        "seed": 3,
        "time": "when",
        "split": "leave-one-out",
        "features": {"f": str(tmp_path / "f.csv")},
        "items": str(tmp_path / "items.txt"),
    }
    monkeypatch.chdir("/")
    again = load_dataset(**data.source)
    assert fingerprint(again) == fingerprint(data)
    assert again.source == data.source
    assert load_dataset(tmp_path / "clicks.csv").source == {"source": str(tmp_path / "clicks.csv")}


def test_seed_decides_the_random_split(tmp_path: Path) -> None:
    path = clicks(tmp_path, "user,item\n" + "".join(f"{u},{i}\n" for u in range(20) for i in range(8)))
    assert fingerprint(load_dataset(path)) == fingerprint(load_dataset(path, seed=0))
    assert fingerprint(load_dataset(path)) != fingerprint(load_dataset(path, seed=1))


def test_repeated_interactions_are_merged_before_the_split(tmp_path: Path) -> None:
    data = load_dataset(clicks(tmp_path, CLICKS + "ann,x,0\nann,x,5\n"), time="when", split="time")
    assert data.notes == ["clicks.csv: 2 repeated interactions were merged"]
    rates = data["user", "rates", "item"]
    assert rates.time.tolist() == [1, 1, 9, 0]
    assert rates.val_time.tolist() == [2]


def test_one_user_one_item(tmp_path: Path) -> None:
    data = load_dataset(clicks(tmp_path, "user,item\na,b\n"))
    assert describe(data)["splits"] == {"train": 1, "val": 0, "test": 0}


@pytest.mark.parametrize("column", ["user", "item", "when"])
def test_missing_column(tmp_path: Path, column: str) -> None:
    path = clicks(tmp_path, CLICKS.replace(column, "other", 1))
    refused(path, rf"clicks\.csv: no column '{column}'; found .*other", time="when")


def test_columns_of_the_wrong_type(tmp_path: Path) -> None:
    columns = {"user": ["a"], "item": ["b"], "lists": [[1]], "clock": pl.Series([1]).cast(pl.Time), "flag": [True]}
    pl.DataFrame(columns).write_parquet(tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", r"column 'lists' has type List.*, expected strings or integers", label="lists")
    refused(tmp_path / "x.parquet", r"column 'lists' has type List.*, expected numbers", rating="lists")
    refused(tmp_path / "x.parquet", r"column 'lists' has type List.*, expected times", time="lists")
    refused(tmp_path / "x.parquet", r"column 'clock' has type Time, expected times", time="clock")
    refused(tmp_path / "x.parquet", r"row 1: flag is True, expected one of", label="flag")
    refused(tmp_path / "x.parquet", r"column 'lists' has type List.*, expected integers or strings", user="lists")


def test_missing_label_column(tmp_path: Path) -> None:
    refused(clicks(tmp_path), "no column 'fold'; found user, item, when", label="fold")


@pytest.mark.parametrize("row", [",x,1", 'ann,"",1', "ann"])
def test_missing_value_in_an_id_column(tmp_path: Path, row: str) -> None:
    refused(clicks(tmp_path, CLICKS + row + "\n"), r"clicks\.csv: line 8: column '(user|item)' is empty")


def test_missing_value_in_a_parquet_id_column(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1, None], "item": [5, 6]}).write_parquet(tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", r"x\.parquet: row 2: column 'user' is empty")


def test_the_header_tells_the_delimiter(tmp_path: Path) -> None:
    expected = fingerprint(load_dataset(clicks(tmp_path)))
    for name, mark in (("clicks.tsv", ","), ("clicks.csv", "\t"), ("clicks.csv", ";"), ("clicks.csv", "|")):
        assert fingerprint(load_dataset(clicks(tmp_path, CLICKS.replace(",", mark), name))) == expected


@pytest.mark.parametrize("label", ["3", "Train", "dev", ""])
def test_unknown_split_label(tmp_path: Path, label: str) -> None:
    path = clicks(tmp_path, f"user,item,fold\na,b,train\na,c,{label}\n")
    refused(path, r"clicks\.csv: line 3: (fold is '|column 'fold' is empty)", label="fold")


def test_pair_in_two_splits(tmp_path: Path) -> None:
    path = clicks(tmp_path, "user,item,fold\na,b,0\na,c,1\na,b,2\n")
    refused(path, r"line 4: user 'a', item 'b' is test here and train in an earlier row \(1 such", label="fold")


def test_no_training_interactions(tmp_path: Path) -> None:
    refused(clicks(tmp_path, "user,item,fold\na,b,1\n"), "none of the 1 interactions is for training", label="fold")


def test_unparsable_time(tmp_path: Path) -> None:
    refused(clicks(tmp_path, CLICKS + "bob,y,soon\n"), "line 8: when is 'soon', expected Unix seconds", time="when")


def test_item_that_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("x\ny\n")
    path = clicks(tmp_path)
    refused(path, r"line 5: item 'z' is not in .*items\.txt \(3 such rows\)", items=tmp_path / "items.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x\ny\nx\n", "line 3: 'x' stands in an earlier row too, expected each item once"),
        ("x\n\ny\n", "line 2: column 'item' is empty"),
        ("", "the file is empty, expected item ids, one a line"),
        ("\n", "the file is empty"),
        (b"x\n\xff\n", "line 2: byte 0xff is not UTF-8"),
    ],
)
def test_bad_items_file(tmp_path: Path, text: str | bytes, message: str) -> None:
    refused(clicks(tmp_path), rf"items\.txt: {message}", items=clicks(tmp_path, text, "items.txt"))


def test_missing_files(tmp_path: Path) -> None:
    refused(tmp_path / "clicks.csv", "no such file, expected a file")
    refused(clicks(tmp_path), "no such file", items=tmp_path / "items.txt")
    refused(clicks(tmp_path), "no such file", features={"image": tmp_path / "image.npy"})
    refused(clicks(tmp_path), "no such file", features={"image": tmp_path / "image.csv"})


def test_empty_header_only_and_not_utf8(tmp_path: Path) -> None:
    refused(clicks(tmp_path, ""), "the file is empty")
    refused(clicks(tmp_path, "user,item\n"), "no rows")
    refused(clicks(tmp_path, b"user,item\na,b\n\xe9,c\n"), "line 3: byte 0xe9 is not UTF-8")


def test_parquet_without_rows(tmp_path: Path) -> None:
    pl.DataFrame({"user": [], "item": []}).write_parquet(tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", "no rows")


def test_feature_rows_that_are_not_items(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.zeros((3, 2)))
    refused(clicks(tmp_path), "holds 3 rows, expected 4", features={"image": tmp_path / "image.npy"})


@pytest.mark.parametrize("name", ["keys", "two words", "image_missing", "item"])
def test_modality_names_are_checked_before_anything_is_read(tmp_path: Path, name: str) -> None:
    refused(tmp_path / "clicks.csv", f"'{name}' cannot name a modality", features={name: tmp_path / "nothing.npy"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "ramdom"}, "split: got 'ramdom', did you mean 'random'"),
        ({"split": "time"}, "split: 'time' needs the time column"),
        ({"split": "label"}, "'label' and label=None do not go together"),
        ({"split": "random", "label": "fold"}, "'random' and label='fold' do not go together"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": 1.5}, "seed: got 1.5"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_dataset(clicks(tmp_path), **options)


def shop(tmp_path: Path, seed: int = 0) -> tuple[Path, pl.DataFrame]:
    """A table with times in which many users and items have few rows, each pair once."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "user": [f"u{number}" for number in (90 * rng.random(500) ** 3).astype(int)],
            "item": [f"i{number}" for number in (70 * rng.random(500) ** 3).astype(int)],
            "when": rng.integers(100, size=500),
        }
    ).unique(["user", "item"], keep="first", maintain_order=True)
    frame.write_csv(tmp_path / "shop.csv")
    return tmp_path / "shop.csv", frame


def core_rows(frame: pl.DataFrame, k: int) -> pl.DataFrame:
    """The k-core by polars: whole users and items go until none is too small."""
    while True:
        left = frame.filter((pl.len().over("user") >= k) & (pl.len().over("item") >= k))
        if left.height == frame.height:
            return left
        frame = left


@pytest.mark.parametrize("rule", ["random", "leave-one-out", "time", "global-time", "cold-items"])
def test_a_core_is_what_the_table_of_its_rows_gives(tmp_path: Path, rule: str) -> None:
    path, frame = shop(tmp_path)
    (tmp_path / "core").mkdir()
    core_rows(frame, 4).write_csv(tmp_path / "core" / "shop.csv")
    options: dict[str, Any] = {"time": "when", "split": rule}
    data, expected = load_dataset(path, core=4, **options), load_dataset(tmp_path / "core" / "shop.csv", **options)
    assert 20 < describe(data)["interactions"] < frame.height - 50
    assert fingerprint(data) == fingerprint(expected)
    assert data["user"].raw_id.tolist() == expected["user"].raw_id.tolist()
    assert data["item"].raw_id.tolist() == expected["item"].raw_id.tolist()
    assert data.source["core"] == 4
    assert any("are not in the 4-core and are left out" in note for note in data.notes)


def test_features_of_a_core_are_those_of_its_items(tmp_path: Path) -> None:
    path, frame = shop(tmp_path)
    order = frame["item"].unique(maintain_order=True)
    listed = order.sort(descending=True)
    listed.to_frame().write_csv(tmp_path / "items.csv")
    number = [[int(item[1:])] for item in order]
    np.save(tmp_path / "seen.npy", number)
    np.save(tmp_path / "listed.npy", [[int(item[1:])] for item in listed])
    pl.DataFrame({"item": order, "x": np.ravel(number)}).write_csv(tmp_path / "keyed.csv")
    seen = load_dataset(path, core=4, features={"a": tmp_path / "seen.npy", "b": tmp_path / "keyed.csv"})
    fixed = load_dataset(path, core=4, features={"a": tmp_path / "listed.npy"}, items=tmp_path / "items.csv")
    assert fixed["item"].raw_id.tolist() == sorted(fixed["item"].raw_id.tolist(), reverse=True)
    assert set(fixed["item"].raw_id.tolist()) == set(seen["item"].raw_id.tolist()) < set(order)
    for data, name in ((seen, "a"), (seen, "b"), (fixed, "a")):
        assert [f"i{value:.0f}" for (value,) in data["item"][name].tolist()] == data["item"].raw_id.tolist()
        assert not data["item"][f"{name}_missing"].any()


@pytest.mark.parametrize(
    ("core", "error", "message"), [(0, ConfigError, "core: got 0"), (99, DataError, "the 99-core")]
)
def test_a_core_that_cannot_be(tmp_path: Path, core: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_dataset(clicks(tmp_path), core=core)


def test_global_time_needs_times(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'global-time' needs the time column"):
        load_dataset(clicks(tmp_path), split="global-time")
