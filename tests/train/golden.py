"""The stored loss curves of every trainable model on demo. ``python -m tests.train.golden`` writes them anew.

Do so only where training is meant to compute something else; the difference belongs in the changelog.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bm3_pyg import TrainConfig, fit, load_dataset
from bm3_pyg.train.settings import build_model

FILE = Path(__file__).with_name("golden.json")
EPOCHS = {"bm3": 10, "lightgcn": 3, "bprmf": 3, "vbpr": 3, "freedom": 3}
SHOWN = ("recall@20", "ndcg@20")


def curve(model: str) -> list[dict[str, Any]]:
    """A record for each epoch: its losses, and two of the validation metrics."""
    data = load_dataset("demo")
    untrained = build_model(data, {}, seed=0, model=model, device="cpu")
    config = TrainConfig(max_epochs=EPOCHS[model], seed=0)
    history = fit(untrained, data, config, verbose=False).history
    return [
        {"loss": _plain(record["loss"]), "val": _plain({name: record["val"][name] for name in SHOWN})}
        for record in history
    ]


def _plain(values: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.9g}") for name, value in values.items()}


if __name__ == "__main__":
    os.environ["BM3_KERNELS"] = "numba"
    lines = [f'"{model}": [\n' + ",\n".join(json.dumps(record) for record in curve(model)) + "\n]" for model in EPOCHS]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
