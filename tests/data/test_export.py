from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg.data import describe, export_dataset, fingerprint, load_dataset, modalities
from bm3_pyg.errors import ConfigError, DataError, WriteError

pytestmark = pytest.mark.usefixtures("sound_parquet")


@pytest.fixture
def table(tmp_path: Path) -> HeteroData:
    """Text ids, times, ratings, a cold item and a filled feature."""
    rng = np.random.default_rng(0)
    pairs = [(f"u{u}", f"i{i:02}") for u in rng.permutation(9) for i in rng.permutation(11)[: 2 + u]]
    frame = pl.DataFrame(pairs, schema=["user", "item"], orient="row").sample(fraction=1, shuffle=True, seed=0)
    frame.with_columns(
        pl.Series("t", rng.integers(10**9, size=len(frame))), pl.Series("r", rng.random(len(frame), dtype=np.float32))
    ).write_parquet(tmp_path / "clicks.parquet")
    ids = [f"i{i:02}" for i in rng.permutation(12)]
    (tmp_path / "items.txt").write_text("\n".join(ids))
    values = rng.standard_normal((12, 3), dtype=np.float32)
    pl.DataFrame({"item": ids, "v": values})[1:].write_parquet(tmp_path / "image.parquet")
    return load_dataset(
        tmp_path / "clicks.parquet",
        time="t",
        rating="r",
        items=tmp_path / "items.txt",
        features={"image": tmp_path / "image.parquet"},
    )


def rows(data: HeteroData, split: str) -> list[tuple[object, ...]]:
    """Interactions in the users' own ids with time and rating, sorted."""
    rates = data["user", "rates", "item"]
    prefix = "" if split == "train" else f"{split}_"
    users, items = rates[f"{prefix}edge_index"].numpy()
    columns = [data["user"].raw_id[users], data["item"].raw_id[items], rates[f"{prefix}time"], rates[f"{prefix}rating"]]
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def parquet(folder: Path, data: HeteroData, **options: str) -> HeteroData:
    return load_dataset(
        folder / "interactions.parquet",
        label="label",
        items=folder / "items.parquet",
        features={name: folder / f"{name}.parquet" for name in modalities(data)},
        **options,  # type: ignore[arg-type]
    )


def test_mmrec_round_trip(tmp_path: Path, table: HeteroData) -> None:
    export_dataset(table, tmp_path / "out", "mmrec")
    again = load_dataset(tmp_path / "out")
    assert fingerprint(again) == fingerprint(table)
    assert again["item"].raw_id.tolist() == table["item"].raw_id.tolist()
    assert again["user"].raw_id.tolist() == table["user"].raw_id.tolist()
    assert torch.equal(again["item"].image_missing, table["item"].image_missing)
    for split in ("train", "val", "test"):
        assert rows(again, split) == rows(table, split)


def test_parquet_round_trip(tmp_path: Path, table: HeteroData) -> None:
    export_dataset(table, tmp_path / "out", "parquet")
    again = parquet(tmp_path / "out", table, time="time", rating="rating")
    assert again["item"].raw_id.tolist() == table["item"].raw_id.tolist()
    assert again["user"].raw_id.tolist() == table["user"].raw_id.tolist()
    assert torch.equal(again["item"].image, table["item"].image)
    assert torch.equal(again["item"].image_missing, table["item"].image_missing)
    for split in ("train", "val", "test"):
        assert rows(again, split) == rows(table, split)


@pytest.mark.parametrize("kind", ["mmrec", "parquet"])
def test_planted_round_trip(tmp_path: Path, kind: str) -> None:
    data = load_dataset("demo")
    export_dataset(data, tmp_path / "out", kind)
    again = load_dataset(tmp_path / "out") if kind == "mmrec" else parquet(tmp_path / "out", data)
    assert fingerprint(again) == fingerprint(data)
    assert describe(again)["modalities"] == describe(data)["modalities"]


def test_npy(tmp_path: Path, table: HeteroData) -> None:
    (tmp_path / "out").mkdir()
    export_dataset(table, tmp_path / "out", "npy")
    arrays = {path.stem: np.load(path, allow_pickle=False) for path in (tmp_path / "out").iterdir()}
    edges = table["user", "rates", "item"]
    np.testing.assert_array_equal(arrays["train_edges"], edges.edge_index)
    np.testing.assert_array_equal(arrays["val_edges"], edges.val_edge_index)
    np.testing.assert_array_equal(arrays["test_edges"], edges.test_edge_index)
    np.testing.assert_array_equal(arrays["image_feat"], table["item"].image)
    np.testing.assert_array_equal(arrays["image_missing"], table["item"].image_missing)
    np.testing.assert_array_equal(arrays["item_ids"], table["item"].raw_id)
    np.testing.assert_array_equal(arrays["user_ids"], table["user"].raw_id)
    assert len(arrays) == 7


@pytest.mark.parametrize("kind", ["mmrec", "npy", "parquet", "ogb"])
def test_hand_made_data(tmp_path: Path, kind: str) -> None:
    if kind == "ogb":
        pytest.importorskip("ogb")
    data = HeteroData()
    data["user"].num_nodes = 2
    data["item"].x = torch.rand(3, 5, dtype=torch.float16, requires_grad=True)
    data["user", "rates", "item"].edge_index = torch.tensor([[0, 1, 1], [0, 1, 2]])
    data["user", "rates", "item"].time = torch.arange(3)
    export_dataset(data, tmp_path / "deep" / "out", kind)
    assert any((tmp_path / "deep" / "out").iterdir())
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_existing_folder_is_left_alone(tmp_path: Path, table: HeteroData) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "mine.txt"):
        with pytest.raises(DataError, match="exists already, expected a new or empty folder"):
            export_dataset(table, out, "npy")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_nothing_half_written_is_left(tmp_path: Path, table: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(WriteError, match=r"out: cannot be written \(the disk is full\)"):
        export_dataset(table, tmp_path / "out", "mmrec")
    assert sorted(tmp_path.iterdir()) == before


def test_unknown_format(tmp_path: Path, table: HeteroData) -> None:
    with pytest.raises(ConfigError, match="format: got 'parket', did you mean 'parquet'"):
        export_dataset(table, tmp_path / "out", "parket")


def test_modality_that_would_take_the_place_of_the_interactions(tmp_path: Path, table: HeteroData) -> None:
    table["item"].interactions = table["item"].image
    with pytest.raises(DataError, match="expected another name"):
        export_dataset(table, tmp_path / "out", "parquet")
    assert not (tmp_path / "out").exists()
