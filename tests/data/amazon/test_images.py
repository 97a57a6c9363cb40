from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from raw_amazon import RawFiles, Size, write_raw

from bm3_pyg.data.amazon import images
from bm3_pyg.data.amazon.images import read_images
from bm3_pyg.errors import DataError


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawFiles:
    folder = tmp_path_factory.mktemp("raw")
    size = {"users": 190, "items": 150, "interactions": 1600, "ratings": 3000, "meta_items": 600}
    return write_raw(folder, "Baby", Size(**size), image_dim=6)


def slow(path: Path, dim: int) -> dict[str, list[float]]:
    """The finite records; of an item's the first."""
    found: dict[str, list[float]] = {}
    content = path.read_bytes()
    for start in range(0, len(content), 10 + 4 * dim):
        item, *values = struct.unpack(f"<10s{dim}f", content[start : start + 10 + 4 * dim])
        if np.isfinite(values).all():
            found.setdefault(item.decode(), values)
    return found


def record(item: str, values: list[float]) -> bytes:
    return struct.pack(f"<10s{len(values)}f", item.encode(), *values)


@pytest.mark.parametrize("piece", [1, 100, 34 * 601, 1 << 24])
def test_generated_file_is_read_as_a_plain_loop_reads_it(
    raw: RawFiles, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(images, "PIECE", piece)
    expected = slow(raw.images, 6)
    wanted = raw.core["item"].unique(maintain_order=True).shuffle(seed=1)
    values, missing, digest, notes = read_images(raw.images, wanted, dim=6)
    assert digest == hashlib.sha256(raw.images.read_bytes()).hexdigest()
    assert values.dtype == np.float32
    assert 0 < missing.sum() < 10
    for row, item in enumerate(wanted):
        assert missing[row] == (item not in expected)
        np.testing.assert_array_equal(values[row], expected.get(item, [0.0] * 6))
        assert missing[row] or (values[row] == raw.pool[raw.image_row[item]]).all()
    assert notes == [f"{raw.images.name}: 1 repeated items, the first record of each was used"]


def test_the_real_dimension(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((3, 4096)).astype("<f4")
    path = tmp_path / "image_features_Baby.b"
    path.write_bytes(b"".join(b"B00000000%d" % row + values[row].tobytes() for row in range(3)))
    found, missing, _, notes = read_images(path, pl.Series(["B000000002", "absent", "B000000000"]))
    np.testing.assert_array_equal(found, np.stack((values[2], np.zeros(4096), values[0])))
    assert missing.tolist() == [False, True, False]
    assert notes == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_records_that_are_not_finite_are_missing_unless_repeated(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "x.b"
    path.write_bytes(
        record("B000000001", [1, bad])
        + record("B000000002", [bad, 1])
        + record("B000000009", [bad, 1])
        + record("B000000002", [3, 4])
        + record("B000000002", [5, 6])
    )
    values, missing, _, notes = read_images(path, pl.Series(["B000000001", "B000000002"]), dim=2)
    assert values.tolist() == [[0, 0], [3, 4]]
    assert missing.tolist() == [True, False]
    assert notes == [
        "x.b: 1 repeated items, the first record of each was used",
        "x.b: 2 records hold NaN or infinity and were skipped",
    ]


def test_a_file_cut_within_a_record(raw: RawFiles, tmp_path: Path) -> None:
    path = tmp_path / "image_features_Baby.b"
    path.write_bytes(raw.images.read_bytes()[: 34 * 17 + 33])
    with pytest.raises(
        DataError, match=r"image_features_Baby\.b: 17 whole records and 33 extra bytes.*download it again"
    ):
        read_images(path, pl.Series(["B000000000"]), dim=6)


def test_what_should_be_an_asin_is_none(tmp_path: Path) -> None:
    good = record("B000000001", [1, 2])
    path = tmp_path / "x.b"
    for content, found in (
        (b"<!DOCTYPE html>...", "record 1 begins with b'<!DOCTYPE '"),
        (good * 3 + good[:4] + b"\x00" * 14 + good, r"record 4 begins with b'B000'"),
        (good * 2 + b"\xff" * 18, "record 3 begins with"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"x\.b: {found}.*, expected 10 letters and digits"):
            read_images(path, pl.Series(["B000000001"]), dim=2)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_images(tmp_path / "none.b", pl.Series(["B000000001"]))
    (tmp_path / "empty.b").touch()
    with pytest.raises(DataError, match="the file is empty, expected records of 16,394 bytes"):
        read_images(tmp_path / "empty.b", pl.Series(["B000000001"]))
    with pytest.raises(DataError, match="is a folder"):
        read_images(tmp_path, pl.Series(["B000000001"]))


def test_nothing_wanted(raw: RawFiles) -> None:
    values, missing, _, notes = read_images(raw.images, pl.Series([], dtype=pl.String), dim=6)
    assert values.shape == (0, 6)
    assert missing.shape == (0,)
    assert notes == []
