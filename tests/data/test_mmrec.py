from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch_geometric.data import HeteroData

from bm3_pyg.data import describe, fingerprint, load_dataset, modalities
from bm3_pyg.data.mmrec import write_mmrec
from bm3_pyg.errors import DataError

HEADER = "userID\titemID\tx_label\n"
ROWS = HEADER + "0\t1\t0\n0\t0\t0\n1\t1\t0\n1\t2\t1\n0\t2\t2\n"


def folder(tmp_path: Path, text: str | bytes = ROWS, **arrays: NDArray[Any]) -> Path:
    raw = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "toy.inter").write_bytes(raw)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


def refused(path: Path, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    text = str(caught.value)
    assert "\n" not in text
    assert re.search(message, text), text


def test_reads_a_folder(tmp_path: Path) -> None:
    image = np.arange(6, dtype=np.float64).reshape(3, 2)
    data = load_dataset(folder(tmp_path, image_feat=image, text_feat=np.ones((3, 4), dtype=np.float16)))
    rates = data["user", "rates", "item"]
    assert data.name == "toy"
    assert data.source == {"source": str(tmp_path)}
    assert set(data.files) == {"toy.inter", "image_feat.npy", "text_feat.npy"}
    assert data.notes == []
    assert rates.edge_index.tolist() == [[0, 0, 1], [1, 0, 1]]
    assert rates.val_edge_index.tolist() == [[1], [2]]
    assert rates.test_edge_index.tolist() == [[0], [2]]
    assert data["item"].raw_id.tolist() == [0, 1, 2]
    assert data["item"].image.dtype == data["item"].text.dtype == torch.float32
    assert data["item"].image.tolist() == image.tolist()
    assert not data["item"].image_missing.any()


def test_reads_the_file_itself(tmp_path: Path) -> None:
    inter = folder(tmp_path) / "toy.inter"
    data = load_dataset(inter)
    assert data.source == {"source": str(inter)}
    assert fingerprint(data) == fingerprint(load_dataset(tmp_path))


def test_any_column_order_with_rating_and_timestamp(tmp_path: Path) -> None:
    text = "timestamp\tx_label\titemID\trating\tuserID\n7\t0\t1\t4.5\t0\n9\t0\t0\t\t0\n8\t1\t1\t3\t1\n8\t0\t2\t1\t1\n"
    rates = load_dataset(folder(tmp_path, text))["user", "rates", "item"]
    assert rates.edge_index.tolist() == [[0, 0, 1], [1, 0, 2]]
    assert rates.time.tolist() == [7, 9, 8]
    assert rates.val_time.tolist() == [8]
    np.testing.assert_array_equal(rates.rating.numpy(), [4.5, np.nan, 1])


def test_windows_line_ends_byte_order_mark_and_trailing_blank_lines(tmp_path: Path) -> None:
    expected = fingerprint(load_dataset(folder(tmp_path)))
    text = b"\xef\xbb\xbf" + ROWS.replace("\n", "\r\n").encode() + b"\r\n\r\n"
    assert fingerprint(load_dataset(folder(tmp_path, text))) == expected


@pytest.mark.parametrize("separator", ["\t", ","])
def test_own_ids_from_mappings(tmp_path: Path, separator: str) -> None:
    folder(tmp_path, image_feat=np.ones((4, 1)))
    (tmp_path / "u_id_mapping.csv").write_text("userID\tuser\n1\tbob\n0\tann\n".replace("\t", separator))
    (tmp_path / "i_id_mapping.csv").write_text("asin\titemID\n11\t0\n12\t1\n13\t2\n14\t3\n".replace("\t", separator))
    data = load_dataset(tmp_path)
    assert data["user"].raw_id.tolist() == ["ann", "bob"]
    assert data["item"].raw_id.tolist() == [11, 12, 13, 14]
    assert data["item"].num_nodes == 4
    assert {"u_id_mapping.csv", "i_id_mapping.csv"} <= set(data.files)


def test_missing_mask(tmp_path: Path) -> None:
    path = folder(tmp_path, image_feat=np.ones((3, 2)), image_missing=np.array([False, True, False]))
    data = load_dataset(path)
    assert data["item"].image_missing.tolist() == [False, True, False]
    assert data.notes == ["image: 1 of 3 items have no feature and were given the mean of the others"]
    np.save(path / "image_missing.npy", np.zeros(2, dtype=bool))
    refused(path, r"image_missing\.npy: holds bool of shape \[2\], expected bool \[3\]")


def test_repeated_interactions_are_merged_and_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="bm3_pyg"):
        data = load_dataset(folder(tmp_path, ROWS + "0\t1\t0\n0\t1\t0\n"))
    assert data["user", "rates", "item"].edge_index.tolist() == [[0, 0, 1], [1, 0, 1]]
    assert data.notes == ["toy.inter: 2 repeated interactions were merged"]
    assert caplog.messages == data.notes


def test_users_without_training_interactions_are_noted(tmp_path: Path) -> None:
    data = load_dataset(folder(tmp_path, ROWS + "3\t0\t2\n"))
    assert data["user"].num_nodes == 4
    assert data.notes == ["toy: 2 of 4 users have no training interaction; evaluation leaves them out"]


def test_one_user_and_one_item(tmp_path: Path) -> None:
    data = load_dataset(folder(tmp_path, HEADER + "0\t0\t0\n", image_feat=np.ones((1, 1))))
    assert describe(data)["sparsity"] == 0
    assert list(modalities(data)) == ["image"]


@pytest.mark.parametrize("name", ["userID", "itemID", "x_label"])
def test_missing_column(tmp_path: Path, name: str) -> None:
    path = folder(tmp_path, ROWS.replace(name, "other"))
    refused(path, rf"toy\.inter: no column '{name}'; found .*other")


@pytest.mark.parametrize("value", ["x", "1.5", "1e3", "-1", "99999999999999999999"])
def test_id_that_is_not_a_small_non_negative_integer(tmp_path: Path, value: str) -> None:
    path = folder(tmp_path, ROWS + f"0\t{value}\t0\n")
    refused(path, rf"toy\.inter: line 7: itemID is '{value}', expected a non-negative 64-bit integer")


@pytest.mark.parametrize("value", [10**12, 2**63 - 1])
def test_ids_that_are_not_dense(tmp_path: Path, value: int) -> None:
    refused(folder(tmp_path, ROWS + f"{value}\t0\t0\n"), rf"line 7: userID is {value}, but only 3 distinct ones occur")
    load_dataset(folder(tmp_path, ROWS + "1029\t0\t0\n"))
    refused(folder(tmp_path, ROWS + "1030\t0\t0\n"), "line 7: userID is 1030")


def test_id_beyond_the_mapping(tmp_path: Path) -> None:
    (folder(tmp_path) / "i_id_mapping.csv").write_text("asin\titemID\na\t0\nb\t1\n")
    refused(tmp_path, r"toy\.inter: line 5: itemID is 2, expected one of the 2 in .*i_id_mapping\.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asin\titemID\na\t0\nb\t1\nc\t1\n", "line 4: 1 stands in an earlier row too, expected each itemID once"),
        ("asin\titemID\na\t0\nb\t1\na\t2\n", "line 4: 'a' stands in an earlier row too, expected each own id once"),
        ("asin\titemID\na\t0\nb\t1\nc\t3\n", "line 4: itemID is 3, expected 0 to 2, as there are 3 rows"),
        ("asin\titemID\na\t0\n\t1\nc\t2\n", "line 3: column 'asin' is empty"),
        ("asin\titem\na\t0\n", "no column 'itemID'; found asin, item"),
        ("asin\titemID\tx\na\t0\t1\n", "3 columns, expected two"),
    ],
)
def test_bad_mapping(tmp_path: Path, text: str, message: str) -> None:
    (folder(tmp_path) / "i_id_mapping.csv").write_text(text)
    refused(tmp_path, rf"i_id_mapping\.csv: {message}")


def test_unknown_split_label(tmp_path: Path) -> None:
    refused(folder(tmp_path, ROWS + "0\t3\t3\n"), r"toy\.inter: line 7: x_label is '3', expected one of 0, 1, 2")


def test_missing_value_in_an_id_column(tmp_path: Path) -> None:
    refused(folder(tmp_path, ROWS + "\t0\t0\n"), r"toy\.inter: line 7: column 'userID' is empty")


def test_a_blank_line_between_rows_does_not_count(tmp_path: Path) -> None:
    path = folder(tmp_path, ROWS + "\n0\t3\t0\n")
    assert fingerprint(load_dataset(path)) == fingerprint(load_dataset(folder(tmp_path, ROWS + "0\t3\t0\n")))


def test_too_many_cells(tmp_path: Path) -> None:
    refused(folder(tmp_path, ROWS + "0\t3\t0\t9\n"), r"toy\.inter: line 7: 4 cells, expected 3 as in the header")


def test_another_delimiter(tmp_path: Path) -> None:
    expected = fingerprint(load_dataset(folder(tmp_path)))
    assert fingerprint(load_dataset(folder(tmp_path, ROWS.replace("\t", ",")))) == expected


def test_empty_file(tmp_path: Path) -> None:
    refused(folder(tmp_path, ""), r"toy\.inter: the file is empty, expected a header line and rows")
    refused(folder(tmp_path, "\n\n"), "the file is empty")


def test_header_only(tmp_path: Path) -> None:
    refused(folder(tmp_path, HEADER), r"toy\.inter: no rows, expected at least one below the header")


def test_not_utf8(tmp_path: Path) -> None:
    refused(folder(tmp_path, ROWS.encode() + b"0\t\xff\t0\n"), r"toy\.inter: line 7: byte 0xff is not UTF-8")


def test_unparsable_time(tmp_path: Path) -> None:
    text = HEADER.replace("\n", "\ttimestamp\n") + "0\t0\t0\t5\n0\t1\t0\tsoon\n"
    refused(folder(tmp_path, text), r"toy\.inter: line 3: timestamp is 'soon', expected Unix seconds")


def test_pair_in_two_splits(tmp_path: Path) -> None:
    path = folder(tmp_path, ROWS + "0\t1\t2\n1\t1\t1\n")
    refused(path, r"toy\.inter: line 7: userID 0, itemID 1 is test here and train in an earlier row \(2 such pairs\)")


def test_no_training_interactions(tmp_path: Path) -> None:
    refused(folder(tmp_path, HEADER + "0\t0\t1\n"), "toy: none of the 1 interactions is for training")


def test_folder_with_no_or_two_inter_files(tmp_path: Path) -> None:
    refused(tmp_path, r"found 0 \.inter files \(none\), expected exactly one")
    (folder(tmp_path) / "other.inter").write_text(ROWS)
    refused(tmp_path, r"found 2 \.inter files \(other\.inter, toy\.inter\), expected exactly one")


def test_feature_rows_that_are_not_items(tmp_path: Path) -> None:
    refused(
        folder(tmp_path, image_feat=np.ones((4, 2))), r"image_feat\.npy: holds 4 rows, expected 3, one for each item"
    )


def test_modality_with_a_name_that_is_taken(tmp_path: Path) -> None:
    refused(folder(tmp_path, keys_feat=np.ones((3, 2))), r"keys_feat\.npy: 'keys' cannot name a modality")


def rich(tmp_path: Path) -> HeteroData:
    text = "userID\titemID\trating\ttimestamp\tx_label\n0\t1\t0.1\t1500000000.25\t0\n2\t0\t4\t7\t0\n0\t2\t3.3\t9\t2\n"
    path = folder(
        tmp_path, text, v_feat=np.random.default_rng(0).random((4, 3)), v_missing=np.array([False, True, False, False])
    )
    (path / "i_id_mapping.csv").write_text('asin\titemID\n007\t0\n"a ""b"""\t1\nü\t2\nd,e\t3\n')
    return load_dataset(path)


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    data = rich(tmp_path)
    (tmp_path / "out").mkdir()
    write_mmrec(data, tmp_path / "out")
    again = load_dataset(tmp_path / "out")
    assert fingerprint(again) == fingerprint(data)
    assert again.name == data.name == "toy"
    assert again["item"].raw_id.tolist() == data["item"].raw_id.tolist() == ["007", 'a "b"', "ü", "d,e"]
    assert again["user"].raw_id.tolist() == [0, 1, 2]
    assert again["item"].v_missing.tolist() == [False, True, False, False]
    for name, value in data["user", "rates", "item"].items():
        assert torch.equal(again["user", "rates", "item"][name], value), name


def test_hand_made_data_can_be_written(tmp_path: Path) -> None:
    data = HeteroData()
    data["user"].num_nodes = 2
    data["item"].x = torch.rand(3, 5, dtype=torch.float64)
    data["user", "rates", "item"].edge_index = torch.tensor([[0, 1, 1], [0, 1, 2]])
    write_mmrec(data, tmp_path)
    again = load_dataset(tmp_path)
    assert again.name == "data"
    torch.testing.assert_close(again["item"].x, data["item"].x.float())


def test_baby(shared_data: Callable[[str], Path]) -> None:
    told = describe(load_dataset(shared_data("baby")))
    assert (told["users"], told["items"], told["interactions"]) == (19_445, 7_050, 160_792)
    assert told["splits"] == {"train": 118_551, "val": 20_559, "test": 21_682}
    assert told["users_without_training"] == 0
    assert told["modalities"] == {}


def test_tiktok(shared_data: Callable[[str], Path]) -> None:
    data = load_dataset(shared_data("tiktok"))
    told = describe(data)
    assert (told["users"], told["items"], told["interactions"]) == (9_308, 6_710, 68_722)
    assert told["splits"] == {"train": 59_541, "val": 3_051, "test": 6_130}
    assert told["modalities"] == {"audio": {"dim": 128, "missing": 0}, "image": {"dim": 128, "missing": 0}}
    assert told["users_without_training"] == 10
    stored = np.load(shared_data("tiktok") / "image_feat.npy")
    assert data["item"].image.dtype == torch.float32
    np.testing.assert_array_equal(data["item"].image.numpy(), stored.astype(np.float32))
