"""The README's Python runs as it stands there, but for the number of epochs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_example_recommends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = BLOCKS[0].replace("patience=20", "max_epochs=2")
    assert example != BLOCKS[0]
    assert len(example.strip().splitlines()) <= 13
    names: dict[str, Any] = {}
    exec(example, names)
    indices, items = names["indices"], names["items"]
    assert isinstance(indices, torch.Tensor)
    assert indices.shape == (2, 20)
    assert np.array_equal(items, indices)  # demo's own ids are the indices
    assert (tmp_path / "runs/example/metrics.json").is_file()


def test_the_objective_alone() -> None:
    names: dict[str, object] = {
        "user_emb": torch.randn(5, 64, requires_grad=True),
        "item_emb": torch.randn(6, 64, requires_grad=True),
        "latents": torch.randn(6, 64, requires_grad=True),
        "users": torch.tensor([0, 4, 4]),
        "items": torch.tensor([5, 5, 0]),
    }
    exec(BLOCKS[1], names)
    losses = names["losses"]
    assert isinstance(losses, tuple)
    assert float(losses[0].detach()) > 0
