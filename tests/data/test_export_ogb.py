from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of, export_dataset, modalities
from bm3_pyg.errors import ConfigError

pytest.importorskip("ogb")


@pytest.fixture
def data() -> HeteroData:
    """Own ids, two modalities, a user and items without interactions, and no validation interactions."""
    data = HeteroData()
    data.name = "My shop-2"
    data["user"].num_nodes, data["item"].num_nodes = 4, 5
    data["user"].raw_id = np.array(["a", "b,c", "d", "e"])
    data["item"].raw_id = np.array([10, 20, 30, 40, 50])
    data["item"].image, data["item"].text = torch.randn(5, 3), torch.randn(5, 2)
    data["user", "rates", "item"].edge_index = torch.tensor([[0, 1, 2, 2], [4, 0, 1, 0]])
    data["user", "rates", "item"].test_edge_index = torch.tensor([[0, 2], [0, 4]])
    return data


def read(folder: Path, block: int) -> Any:
    """What the README's code, run as it stands, makes of the folder."""
    code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.S)
    names: dict[str, Any] = {}
    exec(code[block], names)
    return names["graph"], names["splits"]


def check_splits(splits: Any, data: HeteroData) -> None:
    assert splits.keys() == {"train", "valid", "test"}
    for theirs, ours in (("train", "train"), ("valid", "val"), ("test", "test")):
        found = torch.stack([splits[theirs]["source_node"], splits[theirs]["target_node"]])
        assert torch.equal(found, edges_of(data, ours))


@pytest.mark.filterwarnings("ignore")
def test_ogb_reads_the_folder_as_its_readme_says(tmp_path: Path, data: HeteroData) -> None:
    export_dataset(data, tmp_path / "out", "ogb")
    for _ in range(2):
        graph, splits = read(tmp_path / "out", 0)
        assert graph["num_nodes_dict"] == {"user": 4, "item": 5}
        np.testing.assert_array_equal(graph["edge_index_dict"]["user", "rates", "item"], edges_of(data, "train"))
        features = torch.cat([*modalities(data).values()], dim=1)
        np.testing.assert_array_equal(graph["node_feat_dict"]["item"], features)
        check_splits(splits, data)


@pytest.mark.filterwarnings("ignore")
def test_so_does_its_reader_for_pyg(tmp_path: Path, data: HeteroData) -> None:
    export_dataset(data, tmp_path / "out", "ogb")
    for _ in range(2):
        graph, splits = read(tmp_path / "out", 1)
        assert torch.equal(graph.edge_index_dict["user", "rates", "item"], edges_of(data, "train"))
        assert torch.equal(graph.x_dict["item"], torch.cat([data["item"].image, data["item"].text], dim=1))
        check_splits(splits, data)


def test_what_lies_in_the_folder(
    tmp_path: Path, data: HeteroData, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    export_dataset(data, "out", "ogb")
    assert [path.name for path in (tmp_path / "cwd").iterdir()] == ["out"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["README.md", "meta_dict.pt", "my_shop_2"]
    assert "image 0-2, text 3-4" in Path("out/README.md").read_text()
    meta = torch.load("out/meta_dict.pt", weights_only=True)
    assert meta["dir_path"] == str(tmp_path / "cwd/out/my_shop_2")
    for kind in ("user", "item"):
        ids = pl.read_csv(f"out/my_shop_2/mapping/{kind}_ids.csv")[f"{kind} id"]
        assert ids.to_list() == data[kind].raw_id.tolist()
    assert capsys.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore")
def test_no_features(tmp_path: Path, data: HeteroData) -> None:
    del data["item"].image, data["item"].text
    export_dataset(data, tmp_path / "first", "ogb")
    shutil.move(tmp_path / "first", tmp_path / "moved")
    text = (tmp_path / "moved/README.md").read_text().replace(str(tmp_path / "first"), str(tmp_path / "moved"))
    (tmp_path / "moved/README.md").write_text(text)
    graph, splits = read(tmp_path / "moved", 0)
    assert graph["node_feat_dict"] is None
    check_splits(splits, data)


def test_without_ogb_the_extra_is_named(tmp_path: Path, data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ogb.io", None)
    with pytest.raises(ConfigError, match=r'pip install "bm3-pyg\[ogb\]"'):
        export_dataset(data, tmp_path / "out", "ogb")
    assert list(tmp_path.iterdir()) == []
