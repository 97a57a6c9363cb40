"""Training computes what it did when its curves were stored, on any processor and with any number of threads."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

from bm3_pyg.models import MODELS
from tests.train.golden import EPOCHS, FILE, curve

NUMBERS = tuple(map(int, version("torch").split("+")[0].split(".")[:2]))
GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("model", EPOCHS)
def test_curves_are_the_stored_ones(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses to 1e-5; of the metrics, where one swap of two items counts, the mean of some 2,000 users.

    Dropout masks differ from one kind of kernel to the other.
    """
    if model == "freedom" and NUMBERS < (2, 13):
        pytest.skip("older PyTorch has other exponential random numbers, by which edges are left out")
    monkeypatch.setenv("BM3_KERNELS", "numba")
    found = curve(model)
    assert len(found) == len(GOLDEN[model]) == EPOCHS[model]
    for epoch, (record, stored) in enumerate(zip(found, GOLDEN[model], strict=True), 1):
        assert record["loss"] == pytest.approx(stored["loss"], rel=1e-5, abs=1e-9), epoch
        assert record["val"] == pytest.approx(stored["val"], abs=1e-3), epoch


def test_every_trainable_model_has_a_curve() -> None:
    assert set(GOLDEN) == set(EPOCHS)
    assert set(EPOCHS) == {name for name, model in MODELS.items() if hasattr(model, "loss")}
