from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from bm3_pyg import BM3, TrainConfig, fit, load_dataset, load_run
from bm3_pyg.errors import RunError


@pytest.fixture
def run(shop: Path, tmp_path: Path) -> Path:
    """A run on the shop, whose items have ids of their own."""
    (shop / "i_id_mapping.csv").write_text("asin\titemID\n" + "".join(f"sku{i}\t{i}\n" for i in range(8)))
    data = load_dataset(shop)
    fit(BM3.from_data(data), data, TrainConfig(max_epochs=1), tmp_path / "run", verbose=False)
    return tmp_path / "run"


def refused(run: Path, *expected: str) -> None:
    with pytest.raises(RunError) as caught:
        load_run(run)
    text = str(caught.value)
    assert text.startswith(f"{run}: trained on another dataset than shop (")
    for part in expected:
        assert part in text


def make_old(run: Path) -> None:
    """Leave what a run from before ids counted has."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["dataset"]["fingerprint"] = config["dataset"]["fingerprint"][:64]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    told = json.loads((run / "environment.json").read_text())
    told["data"] = {"fingerprint": config["dataset"]["fingerprint"], "files": told["data"]["files"]}
    (run / "environment.json").write_text(json.dumps(told))
    (run / "seal.json").unlink()


@pytest.mark.parametrize("old", [False, True])
def test_other_ids_are_another_dataset(run: Path, shop: Path, old: bool) -> None:
    if old:
        make_old(run)
    load_run(run)
    mapping = shop / "i_id_mapping.csv"
    mapping.write_text("asin\titemID\n" + "".join(f"sku{(i + 1) % 8}\t{i}\n" for i in range(8)))
    refused(run, "i_id_mapping.csv has changed", "own ids differ")


def test_what_differs_is_told(run: Path, shop: Path) -> None:
    inter, image = shop / "shop.inter", shop / "image_feat.npy"
    text = inter.read_text()
    inter.write_text(text + "0\t7\t0\n")
    refused(run, "shop.inter has changed", "train interactions was 48, is 49")
    inter.write_text(text)
    load_run(run)
    values = np.load(image)
    np.save(image, values[:, :4])
    refused(run, "image_feat.npy has changed", "modality image was 5, is 4")
    np.save(shop / "text_feat.npy", values)
    np.save(image, values)
    refused(run, "text_feat.npy is new", "modality text is new")


def test_without_an_environment_it_is_refused_all_the_same(run: Path, shop: Path) -> None:
    (run / "environment.json").write_text("[" * 100_000)
    values = np.load(shop / "image_feat.npy")
    np.save(shop / "image_feat.npy", values + 1)
    refused(run, "interactions or features differ")


def test_a_resume_says_it_too(run: Path, shop: Path) -> None:
    data = load_dataset(shop)
    data["user"].raw_id = data["user"].raw_id + 1
    with pytest.raises(RunError, match=r"another dataset than shop \(the users' or items' own ids differ\)"):
        fit(BM3.from_data(data), data, TrainConfig(max_epochs=2), run, resume=True, verbose=False)


def test_a_run_from_before_ids_counted_is_resumed(run: Path, shop: Path) -> None:
    make_old(run)
    data = load_dataset(shop)
    fit(BM3.from_data(data), data, TrainConfig(max_epochs=2), run, resume=True, verbose=False)
    assert "-" in yaml.safe_load((run / "config.yaml").read_text())["dataset"]["fingerprint"]
