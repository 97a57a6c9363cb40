from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from bm3_pyg.errors import ConfigError
from bm3_pyg.nn.features import FrozenFeatures, feature_table
from bm3_pyg.optim import DeferredAdam, RowTable


def test_projections_of_repeated_items_in_any_order() -> None:
    image, text = torch.randn(5, 3), torch.randn(5, 2)
    features = FrozenFeatures({"image": image, "text": text}, 5, 4)
    items = torch.tensor([4, 0, 4, 2])
    projected = features(items)
    for name, values in (("image", image), ("text", text)):
        expected = values.half().float()[items] @ features.projections[name].weight.T
        torch.testing.assert_close(projected[name], expected)
    assert all(parameter.shape[0] == 4 for parameter in features.parameters())
    assert set(features.state_dict()) == {"projections.image.weight", "projections.text.weight"}


def test_features_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="modalities: got none"):
        FrozenFeatures({}, 5, 4)
    with pytest.raises(ConfigError, match=r"modality image: got shape \[4, 3\], expected \[5, d\]"):
        FrozenFeatures({"image": torch.randn(4, 3)}, 5, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_leaves_a_mapped_file_and_its_tensor_as_they_were(tmp_path: Path, dtype: torch.dtype) -> None:
    """Two tables of one file are independent, copies are whole, and what becomes of the file meanwhile does no harm."""
    path = tmp_path / "0.npy"
    np.save(path, torch.randn(6, 3, dtype=dtype).numpy())
    mapped = torch.from_numpy(np.load(path, mmap_mode="c"))
    before, content = mapped.clone(), path.read_bytes()
    one, other, frozen = (feature_table(mapped, trainable) for trainable in (True, True, False))
    optimizer = DeferredAdam(one.parameters(), [one], lr=0.1)
    _step(one, optimizer)
    assert torch.equal(mapped, before)
    assert path.read_bytes() == content
    assert torch.equal(other.weight, before)
    assert not torch.equal(one.gather(torch.arange(6)), before)

    path.write_bytes(b"")  # of a map this would end the process where a page was not read yet
    _step(one, optimizer)
    expected = one.state_dict()["weight"]
    assert expected.isfinite().all()
    assert torch.equal(other.weight, before)
    assert torch.equal(frozen.weight.float(), before.half().float())
    for copied in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), copy.deepcopy(one).to(dtype)):
        assert torch.equal(copied.weight, expected)
    other.load_state_dict({"weight": expected})
    assert torch.equal(other.double().weight, expected.double())


def _step(table: RowTable, optimizer: DeferredAdam) -> None:
    optimizer.zero_grad()
    table.gather(torch.tensor([1, 4])).square().sum().backward()
    optimizer.step()
