"""What is read of best.pt and last.pt; ``tests/contracts/test_run_files.py`` damages them in every way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bm3_pyg.errors import RunError
from bm3_pyg.train.checkpoint import check_optimizer, load_checkpoint, load_weights, match_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"hello"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(RunError, match=r"best\.pt: damaged or not a checkpoint"):
        load_checkpoint(tmp_path / "best.pt", CPU)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "boom"),)

    torch.save({"schema": 1, "model": Bomb()}, tmp_path / "best.pt")
    with pytest.raises(RunError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path / "best.pt", CPU)
    assert not (tmp_path / "boom").exists()


def test_what_is_sound_is_read(tmp_path: Path) -> None:
    torch.save({"schema": 1, "model": {"weight": torch.arange(3)}, "best": {}}, tmp_path / "best.pt")
    found = load_checkpoint(tmp_path / "best.pt", CPU)
    assert found["model"]["weight"].tolist() == [0, 1, 2]
    torch.save({"schema": 2}, tmp_path / "best.pt")
    with pytest.raises(RunError, match="not a checkpoint of a run, expected schema 1"):
        load_checkpoint(tmp_path / "best.pt", CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "bias' is missing"),
        ({"more": torch.ones(1)}, "more' is no weight of the model"),
        ({"weight": torch.ones(3, 2)}, r"weight is torch.float32 \[3, 2\], expected torch.float32 \[2, 3\]"),
        ({"weight": torch.ones(2, 3).double()}, r"weight is torch.float64 \[2, 3\], expected torch.float32"),
        ({"bias": "text"}, "bias is a str, expected"),
        ({"bias": torch.tensor([1.0, torch.nan])}, "bias: got NaN or infinity"),
        ({"bias": torch.tensor([-torch.inf, 0.0])}, "bias: got NaN or infinity"),
    ],
)
def test_weights_that_are_not_the_models(change: dict[str, Any], message: str) -> None:
    model = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = {"weight": torch.ones(2, 3), "bias": torch.ones(2), **change}
    with pytest.raises(RunError, match=rf"^best\.pt: .*{message}"):
        load_weights(model, {name: value for name, value in weights.items() if value is not None}, Path("best.pt"))
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_weights_are_loaded_and_bring_their_precision() -> None:
    model, twin = nn.Linear(3, 2), nn.Linear(3, 2, dtype=torch.float64)
    match_precision(model, twin.state_dict())
    load_weights(model, twin.state_dict(), Path("best.pt"))
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=0, atol=0)


def stepped(parameter: Tensor, steps: int, lr: float = 0.1) -> torch.optim.Adam:
    optimizer = torch.optim.Adam([parameter], lr=lr)
    for _ in range(steps):
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    return optimizer


def test_the_optimizer_took_the_steps_of_its_epoch() -> None:
    saved = stepped(torch.zeros(2), 3).state_dict()
    own = stepped(torch.zeros(2), 0)
    check_optimizer(own, saved, 3, Path("last.pt"))
    torch.testing.assert_close(own.state_dict()["state"], saved["state"], rtol=0, atol=0)
    for other, message in (
        (stepped(torch.zeros(2), 0), r"took 3 steps, expected the 4 of its epoch and step"),
        (stepped(torch.zeros(3), 0), r"exp_avg: got shape \[2\], expected \[3\]"),
        (stepped(torch.zeros(2), 0, lr=0.2), r"lr: got 0\.1, expected 0\.2"),
    ):
        with pytest.raises(RunError, match=rf"^last\.pt: optimizer: {message}"):
            check_optimizer(other, saved, 4, Path("last.pt"))
