from __future__ import annotations

import json

import torch

from bm3_pyg.train.environment import environment, peak_memory_mb


def test_the_environment_names_what_a_repeat_needs() -> None:
    found = environment(torch.nn.Linear(1, 1))
    assert json.loads(json.dumps(found)) == found
    assert found["packages"].keys() >= {"bm3-pyg", "torch", "torch-geometric", "numpy"}
    assert found["threads"] == torch.get_num_threads()


def test_peak_memory_is_that_of_the_process() -> None:
    before = peak_memory_mb(torch.device("cpu"))
    block = torch.ones(64 * 2**18)
    assert before > 30
    assert peak_memory_mb(torch.device("cpu")) >= max(before, block.numel() * 4 / 2**20)
