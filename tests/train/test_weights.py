"""What a run keeps of the weights: scores and cold items are the same with it, and no other row is made up."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, TrainConfig, evaluate, fit, load_run
from bm3_pyg.errors import ConfigError, RunError
from bm3_pyg.eval import with_cold_items
from bm3_pyg.optim.kept_rows import KeptRows
from bm3_pyg.train.checkpoint import load_checkpoint
from bm3_pyg.train.weights import load_best_weights

CPU = torch.device("cpu")


def trained(data: HeteroData, out: Path | None, cls: type[BM3] = BM3, **settings: Any) -> BM3:
    torch.manual_seed(0)
    model = cls.from_data(data, embedding_dim=8)
    fit(model, data, TrainConfig(max_epochs=3, batch_size=100, lr=0.01, **settings), out, verbose=False)
    return model


@pytest.fixture
def cold_data(small_data: HeteroData) -> HeteroData:
    """Every fifth item without training interactions."""
    edges = small_data["user", "rates", "item"]
    edges.edge_index = edges.edge_index[:, edges.edge_index[1] % 5 != 0]
    return small_data


def test_scores_and_cold_items_are_those_of_the_whole_model(cold_data: HeteroData, tmp_path: Path) -> None:
    whole = trained(cold_data, tmp_path / "whole", save_features=True)
    left = trained(cold_data, tmp_path / "left")
    loaded, _ = load_run(tmp_path / "left", data=cold_data)
    assert "features.image.weight" not in load_checkpoint(tmp_path / "left/best.pt", CPU)["model"]
    expected = [*whole.embed(), *with_cold_items(whole, cold_data).embed()]
    for model in (left, loaded, copy.deepcopy(loaded), load_run(tmp_path / "left", data=cold_data)[0].double().float()):
        found = [*model.embed(), *with_cold_items(model, cold_data).embed()]
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "left")]
    assert metrics[0] == metrics[1]
    table = loaded.features["image"]
    rows = load_checkpoint(tmp_path / "left/best.pt", CPU)["kept"]["features.image"]["rows"]
    assert rows.tolist() == list(range(0, 40, 5))
    assert torch.equal(table.gather(rows), whole.features["image"].gather(rows))


def test_what_would_read_another_row_is_refused(small_data: HeteroData, tmp_path: Path) -> None:
    fitted = trained(small_data, tmp_path / "run")
    loaded, _ = load_run(tmp_path / "run", data=small_data)
    ids = torch.arange(3)
    for model in (fitted, loaded):
        for read in (
            lambda model=model: model.features["image"].weight,
            lambda model=model: model.features["image"].gather(torch.tensor([0])),
            lambda model=model: model.state_dict(),
            lambda model=model: model.loss(ids, ids),
            lambda model=model: fit(model, small_data, TrainConfig(max_epochs=1), tmp_path / "again"),
            lambda model=model: model.reset_parameters(),
        ):
            with pytest.raises(ConfigError, match=r"^(features: of 40 rows .*save_features=true|reset_parameters)"):
                read()
        assert model.features["image"].shape == small_data["item"].image.shape
    assert not (tmp_path / "again").exists()


def test_a_run_goes_on_with_a_new_model(small_data: HeteroData, tmp_path: Path) -> None:
    fitted = trained(small_data, tmp_path / "run")
    config, new = TrainConfig(max_epochs=4, batch_size=100, lr=0.01), BM3.from_data(small_data, embedding_dim=8)
    with pytest.raises(ConfigError, match="a new model can resume the run"):
        fit(fitted, small_data, config, tmp_path / "run", resume=True)
    assert len(fit(new, small_data, config, tmp_path / "run", resume=True, verbose=False).history) == 4


@pytest.mark.parametrize("how", ["asked for", "in memory", "frozen", "of an own class"])
def test_what_is_kept_whole(small_data: HeteroData, tmp_path: Path, how: str) -> None:
    class Own(BM3):
        """Scores by the features too, for all that is known."""

        def embed(self) -> tuple[Tensor, Tensor]:
            users, items = super().embed()
            table = self.features["image"]
            return users, items + table.project(torch.arange(table.shape[0]), self.projections["image"])

    if how == "frozen":
        torch.manual_seed(0)
        model = BM3.from_data(small_data, freeze_features=True)
        fit(model, small_data, TrainConfig(max_epochs=1), tmp_path / "run", verbose=False)
        loaded, _ = load_run(tmp_path / "run", data=small_data)
        assert torch.equal(loaded.features["image"].weight, model.features["image"].weight)
        return
    out = None if how == "in memory" else tmp_path / "run"
    model = trained(small_data, out, Own if how == "of an own class" else BM3, save_features=how == "asked for")
    assert model.state_dict()["features.image.weight"].shape == small_data["item"].image.shape
    if out is not None:
        again = type(model).from_data(small_data, embedding_dim=8)
        loaded, _ = load_run(out, data=small_data, model=again)
        assert torch.equal(loaded.features["image"].weight, model.features["image"].weight)
        assert evaluate(loaded, small_data) == evaluate(model, small_data)


def test_each_table_is_once_in_last_pt(small_data: HeteroData, tmp_path: Path) -> None:
    trained(small_data, tmp_path / "run")
    last = load_checkpoint(tmp_path / "run/last.pt", CPU)
    assert "features.image.weight" not in last["model"]
    assert last["optimizer"]["tables"][0]["weight"].shape == small_data["item"].image.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.sound": {"rows": [], "weight": (0, 16)}}, "'features.sound' is no trained table of the model"),
        ({"features.image": {"rows": [3, 3], "weight": (2, 16)}}, "rows: expected increasing numbers below 40"),
        ({"features.image": {"rows": [40], "weight": (1, 16)}}, "rows: expected increasing numbers below 40"),
        ({"features.image": {"rows": [-1], "weight": (1, 16)}}, "rows: expected increasing numbers below 40"),
        ({"features.image": {"rows": [1], "weight": (1, 3)}}, "weight is torch.float32 [1, 3], expected"),
        ({"features.image": {"rows": [1], "weight": (2, 16)}}, "weight is torch.float32 [2, 16], expected"),
    ],
)
def test_rows_that_are_not_the_models(
    small_data: HeteroData, tmp_path: Path, change: dict[str, dict[str, Any]], message: str
) -> None:
    trained(small_data, tmp_path / "run")
    best = dict(load_checkpoint(tmp_path / "run/best.pt", CPU))
    best["kept"] = {
        name: {"rows": torch.tensor(part["rows"], dtype=torch.int64), "weight": torch.zeros(part["weight"])}
        for name, part in change.items()
    }
    model = BM3.from_data(small_data, embedding_dim=8)
    with pytest.raises(RunError, match=re.escape(message)):
        load_best_weights(model, best, tmp_path / "run/best.pt")
    assert not any(isinstance(module, KeptRows) for module in model.modules())


@pytest.mark.long
def test_saving_takes_no_memory_of_a_tables_size(tmp_path: Path) -> None:
    """The peak of a process while it saves both, above what it held before, against tables of 200 MB."""
    code = """
import sys, torch
from pathlib import Path
from bm3_pyg import BM3, TrainConfig, load_dataset
from bm3_pyg.train.epochs import Epochs
from bm3_pyg.train.numbers import RunNumbers
from bm3_pyg.train.run import RunFolder

def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024

data, config, cpu = load_dataset("demo"), TrainConfig(), torch.device("cpu")
data["item"].image = torch.randn(1000, 50_000)
model = BM3.from_data(data, embedding_dim=4)
with RunFolder.open(Path(sys.argv[1]), model, data, config) as folder, RunNumbers(0, cpu, False) as numbers:
    folder.begin()
    epochs = Epochs(model, data["user", "rates", "item"].edge_index, config, numbers, None)
    model.features["image"].gather(torch.arange(3))
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    folder.save_last(epochs.state_dict())
    folder.save_best(model, 1)
    folder.writer.wait()
    print(status("VmHWM") - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/last.pt").stat().st_size > 200e6
    assert float(done.stdout) < 100
