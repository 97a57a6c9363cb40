from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, evaluate, load_run
from bm3_pyg.errors import RunError
from bm3_pyg.train.official import import_checkpoint, read_official_checkpoint
from bm3_pyg.train.run_files import RunFiles


@pytest.fixture
def official_config() -> Iterator[type]:
    """A class pickled as utils.configurator.Config, importable only while the checkpoint is written."""
    module, package = types.ModuleType("utils.configurator"), types.ModuleType("utils")
    config = type("Config", (), {"__module__": "utils.configurator"})
    module.Config = config  # type: ignore[attr-defined]
    sys.modules |= {"utils": package, "utils.configurator": module}
    yield config
    for name in ("utils", "utils.configurator"):
        sys.modules.pop(name, None)


def official_weights(model: BM3) -> dict[str, Tensor]:
    return {
        "user_embedding.weight": model.user_embedding.detach() + 0.5,
        "item_id_embedding.weight": model.item_embedding.detach() + 0.5,
        "predictor.weight": model.objective.predictor.weight.detach(),
        "predictor.bias": model.objective.predictor.bias.detach(),
        "image_embedding.weight": model.features["image"].weight.detach() * 2,
        "image_trs.weight": model.projections["image"].weight.detach(),
        "image_trs.bias": model.projections["image"].bias.detach(),
    }


def save(path: Path, weights: dict[str, Tensor], config_type: type, extra: Any = None) -> None:
    config = config_type()
    config.final_config_dict = {
        "embedding_size": 8,
        "n_layers": 2,
        "dropout": 0.3,
        "reg_weight": 0.01,
        "cl_weight": 2.0,
        "device": torch.device("cpu"),
        "topk": [5, 10],
    }
    checkpoint = {"config": config, "epoch": 3, "best_valid_score": np.float64(0.1), "state_dict": weights}
    torch.save(checkpoint | {"optimizer": {"extra": extra}}, path)
    for name in ("utils", "utils.configurator"):
        sys.modules.pop(name)


def test_weights_and_settings_are_read(small_data: HeteroData, tmp_path: Path, official_config: type) -> None:
    weights = official_weights(BM3.from_data(small_data, embedding_dim=8))
    save(tmp_path / "best.pth", weights, official_config)
    found, options = read_official_checkpoint(tmp_path / "best.pth")
    assert found.keys() == weights.keys()
    assert options == {
        "embedding_dim": 8, "num_layers": 2, "dropout": 0.3, "reg_weight": 0.01, "align_weight": 2.0
    }  # fmt: skip


def test_a_checkpoint_becomes_a_run(small_data: HeteroData, tmp_path: Path, official_config: type) -> None:
    weights = official_weights(BM3.from_data(small_data, embedding_dim=8))
    save(tmp_path / "best.pth", weights, official_config)
    model = import_checkpoint(tmp_path / "best.pth", small_data, tmp_path / "run")
    assert model.options["num_layers"] == 2
    loaded, _ = load_run(tmp_path / "run", data=small_data)
    assert torch.equal(loaded.user_embedding, weights["user_embedding.weight"])
    assert torch.equal(loaded.features["image"].weight, weights["image_embedding.weight"])
    assert evaluate(loaded, small_data) == evaluate(model, small_data)
    assert RunFiles(tmp_path / "run").environment()["seconds"]["rank"] > 0


def test_a_bare_state_dict_will_do(small_data: HeteroData, tmp_path: Path) -> None:
    weights = official_weights(BM3.from_data(small_data))
    torch.save(weights, tmp_path / "weights.pth")
    model = import_checkpoint(tmp_path / "weights.pth", small_data, tmp_path / "run")
    assert torch.equal(model.user_embedding, weights["user_embedding.weight"])


def test_a_checkpoint_of_another_dataset_leaves_nothing(small_data: HeteroData, tmp_path: Path) -> None:
    weights = official_weights(BM3.from_data(small_data))
    weights["user_embedding.weight"] = torch.zeros(61, 64)
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(RunError, match=r"user_embedding.weight has shape \[61, 64\], expected \[60, 64\]"):
        import_checkpoint(tmp_path / "weights.pth", small_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_nothing_in_a_checkpoint_is_run(small_data: HeteroData, tmp_path: Path, official_config: type) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "boom"),)

    save(tmp_path / "best.pth", official_weights(BM3.from_data(small_data)), official_config, Bomb())
    with pytest.raises(RunError, match="damaged, or holds more than tensors"):
        read_official_checkpoint(tmp_path / "best.pth")
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"state_dict": {"a": 1}}, [1]])
def test_a_file_without_weights(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(RunError, match="no state dict of tensors"):
        read_official_checkpoint(tmp_path / "x.pth")


def test_a_missing_and_a_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="a folder, expected a checkpoint"):
        read_official_checkpoint(tmp_path)
    with pytest.raises(RunError, match="no such file"):
        read_official_checkpoint(tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(RunError, match="damaged, or holds more than tensors"):
        read_official_checkpoint(tmp_path / "x.pth")


def test_a_flipped_bit_in_a_weight(small_data: HeteroData, tmp_path: Path, official_config: type) -> None:
    model = BM3.from_data(small_data, embedding_dim=8, num_layers=2)
    save(tmp_path / "x.pth", official_weights(model), official_config)
    raw = bytearray((tmp_path / "x.pth").read_bytes())
    raw[raw.index(model.projections["image"].weight.detach().numpy().tobytes()) + 5] ^= 1
    (tmp_path / "x.pth").write_bytes(raw)
    with pytest.raises(RunError, match=r"x\.pth: damaged"):
        read_official_checkpoint(tmp_path / "x.pth")


def test_a_flipped_bit_in_the_end_of_the_zip(tmp_path: Path) -> None:
    """Every bit of its last records, where Python's zipfile may raise already when it is asked what the file is."""
    path = tmp_path / "BM3.pth"
    torch.save({"user_embedding.weight": torch.zeros(2, 3)}, path)
    sound = path.read_bytes()
    for place in range(len(sound) - 100, len(sound)):
        for bit in range(8):
            path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << bit]) + sound[place + 1 :])
            with contextlib.suppress(RunError):
                weights, _ = read_official_checkpoint(path)
                assert torch.equal(weights["user_embedding.weight"], torch.zeros(2, 3))
