from __future__ import annotations

from typing import Any

import pytest

from bm3_pyg import TrainConfig
from bm3_pyg.errors import ConfigError


def test_the_defaults_are_the_published_settings() -> None:
    config = TrainConfig()
    assert (config.max_epochs, config.patience, config.batch_size, config.lr) == (1000, 20, 2048, 1e-3)


@pytest.mark.parametrize(
    "option",
    [
        {"max_epochs": 0},
        {"max_epochs": 2.5},
        {"patience": True},
        {"batch_size": "many"},
        {"lr": -1},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"seed": -1},
        {"mask": "none"},
    ],
)
def test_wrong_values_are_refused_by_name(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(option))}: got "):
        TrainConfig(**option)
