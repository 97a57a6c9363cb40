from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from raw_amazon import Size, write_raw
from torch_geometric.data import HeteroData

from bm3_pyg.data import fingerprint, load_dataset
from bm3_pyg.data.amazon import AmazonMultimodal, prepare_amazon
from bm3_pyg.errors import DataError


@pytest.fixture(autouse=True)
def _encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(texts: Sequence[str], encoder: str) -> NDArray[np.float32]:
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)

    monkeypatch.setattr("bm3_pyg.data.steps.encode_texts", encode)
    monkeypatch.setattr("bm3_pyg.data.amazon.prepare.find_model", Path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    write_raw(tmp_path / "raw", "Baby", Size(users=40, items=20, interactions=300, ratings=600, meta_items=30))
    return tmp_path


def test_the_one_graph_is_the_prepared_folder(root: Path) -> None:
    dataset = AmazonMultimodal(root, "baby", seed=3)
    assert len(dataset) == 1
    assert isinstance(dataset[0], HeteroData)
    assert dataset.processed_dir == str(root / "baby-seed3")
    assert Path(dataset.raw_paths[0]).name == "reviews_Baby_5.json.gz"
    assert fingerprint(dataset[0]) == fingerprint(load_dataset(prepare_amazon("baby", root, seed=3)))


def test_transform_at_every_access(root: Path) -> None:
    def without_image(data: HeteroData) -> HeteroData:
        del data["item"].image
        return data

    dataset = AmazonMultimodal(root, "baby", transform=without_image)
    assert "text" in dataset[0]["item"]
    assert "image" not in dataset[0]["item"]


def test_prepared_once_it_needs_no_raw_files_and_no_network(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(AmazonMultimodal(root, "baby", images=False)[0])

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("asked for a download")

    monkeypatch.setattr("bm3_pyg.data.amazon.raw_files.download", refused)
    for file in (root / "raw").iterdir():
        file.unlink()
    assert fingerprint(AmazonMultimodal(root, "baby", images=False)[0]) == before
    with pytest.raises(DataError, match="was prepared with images False, not True"):
        AmazonMultimodal(root, "baby")


def test_what_is_missing_is_downloaded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = root / "away"
    (root / "raw").rename(away)

    def download(files: Sequence[Any], folder: Path, **_: Any) -> list[Path]:
        for file in files:
            (folder / file.name).write_bytes((away / file.name).read_bytes())
        return [folder / file.name for file in files]

    monkeypatch.setattr("bm3_pyg.data.amazon.raw_files.download", download)
    dataset = AmazonMultimodal(root, "baby", text_encoder=None)
    assert sorted(path.name for path in (root / "raw").iterdir()) == ["image_features_Baby.b", "reviews_Baby_5.json.gz"]
    assert "text" not in dataset[0]["item"]


def test_force_reload_prepares_anew_but_removes_nothing_else(root: Path) -> None:
    dataset = AmazonMultimodal(root, "baby")
    (root / "baby" / "image_feat.npy").unlink()
    assert "image" not in AmazonMultimodal(root, "baby")[0]["item"]
    again = AmazonMultimodal(root, "baby", force_reload=True)
    assert fingerprint(again[0]) == fingerprint(dataset[0])
    (root / "baby-time").mkdir()
    (root / "baby-time" / "thesis.txt").touch()
    with pytest.raises(DataError, match=r"baby-time: exists but has no card\.json"):
        AmazonMultimodal(root, "baby", split="time", force_reload=True)
    assert (root / "baby-time" / "thesis.txt").exists()


class Bomb:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('unpickled')",)


def test_no_pickle_is_read_or_left(root: Path) -> None:
    AmazonMultimodal(root, "baby")
    assert not list(root.rglob("*.pt"))
    for name in ("pre_transform.pt", "pre_filter.pt", "data.pt"):
        (root / "baby" / name).write_bytes(pickle.dumps(Bomb()))
    assert AmazonMultimodal(root, "baby")[0]["item"].num_nodes == 20
