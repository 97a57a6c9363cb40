"""The commands as a user runs them, and every kind of bad input: exit 2 and one clear line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bm3_pyg.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "demo"
    assert main(["train", "demo", "--out", str(out), "--set", "max_epochs=2"]) == 0
    return out


@pytest.fixture
def bm3(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def mmrec(tmp_path: Path) -> Path:
    """A small folder in MMRec's layout: 12 users, 8 items."""
    folder = tmp_path / "shop"
    folder.mkdir()
    rows = [f"{u}\t{(u + j) % 8}\t{0 if j < 4 else j - 3}" for u in range(12) for j in range(6)]
    (folder / "shop.inter").write_text("userID\titemID\tx_label\n" + "\n".join(rows) + "\n")
    np.save(folder / "image_feat.npy", np.random.default_rng(0).standard_normal((8, 5), dtype=np.float32))
    return folder


def refused(result: tuple[int, str, str], *parts: str) -> None:
    code, out, err = result
    assert code == 2, err
    assert out == ""
    line = err.strip().splitlines()[-1]
    assert "Traceback" not in err
    for part in parts:
        assert part in line


def test_train_prints_a_table_and_the_run(bm3: Run) -> None:
    code, out, _ = bm3("train", "demo", "--set", "max_epochs=1", "--seed", "3")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split("|")[2].strip() == "Recall@10"
    assert lines[2].startswith("| BM3 (epoch 1)")
    assert lines[3].startswith("| Popularity")
    assert lines[-1] == "runs/demo"
    assert json.loads(Path("runs/demo/metrics.json").read_text())["seed"] == 3
    assert bm3("train", "demo", "--set", "max_epochs=1")[1].splitlines()[-1] == "runs/demo-2"


def test_describe(bm3: Run, mmrec: Path) -> None:
    _, out, _ = bm3("data", "describe", mmrec, "--json")
    card = json.loads(out)
    assert (card["users"], card["items"], card["interactions"]) == (12, 8, 72)
    assert card["splits"] == {"train": 48, "val": 12, "test": 12}
    assert card["modalities"] == {"image": {"dim": 5, "missing": 0}}
    code, out, _ = bm3("data", "describe", mmrec)
    assert code == 0
    assert "interactions" in out
    assert "shop.inter" in out


def test_train_evaluate_and_resume_on_a_folder(bm3: Run, mmrec: Path) -> None:
    assert bm3("train", mmrec, "--out", "run", "--set", "max_epochs=2")[0] == 0
    code, out, _ = bm3("evaluate", "run", "--k", "5,10", "--json")
    assert code == 0
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert json.loads(out)["metrics"] == {k: v for k, v in metrics["test"].items() if k.endswith(("@5", "@10"))}
    assert "HitRate" in bm3("evaluate", "run", "--split", "val", "--mask", "seen")[1]
    code, out, _ = bm3("train", "--resume", "--out", "run", "--set", "max_epochs=4")
    assert code == 0
    assert len(Path("run/history.jsonl").read_text().splitlines()) == 4


def test_a_dataset_that_has_moved(bm3: Run, mmrec: Path) -> None:
    bm3("train", mmrec, "--out", "run", "--set", "max_epochs=1")
    mmrec.rename(mmrec.with_name("moved"))
    refused(bm3("evaluate", "run"), "shop")
    assert bm3("evaluate", "run", "--data", "moved")[0] == 0


def test_a_table_with_features_that_has_moved(bm3: Run, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    rows = [(f"u{u}", f"i{(u + j) % 8}") for u in range(12) for j in range(6)]
    pl.DataFrame(rows, schema=["user", "item"], orient="row").write_csv("here/clicks.csv")
    np.save("here/image.npy", np.random.default_rng(0).standard_normal((8, 5), dtype=np.float32))
    features = ["--features", "image=here/image.npy"]
    assert bm3("train", "here/clicks.csv", *features, "--out", "run", "--set", "max_epochs=1")[0] == 0
    (tmp_path / "here").rename(tmp_path / "there")
    assert bm3("evaluate", "run", "--data", "there/clicks.csv")[0] == 0
    assert bm3("export", "run", "--data", "there/clicks.csv", "--format", "npy", "--out", "out")[0] == 0


def test_tensorboard_events_go_into_the_run(bm3: Run, mmrec: Path) -> None:
    pytest.importorskip("tensorboard")
    assert bm3("train", mmrec, "--out", "run", "--tensorboard", "--set", "max_epochs=1")[0] == 0
    assert list(Path("run/tensorboard").iterdir())


def test_a_name_given_twice_is_refused(bm3: Run) -> None:
    Path("clicks.csv").write_text("user,item\na,x\n")
    refused(bm3("train", "clicks.csv", "--features", "image=a.npy", "--features", "image=b.npy"), "got image twice")


def test_recommendations_speak_the_users_ids(bm3: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = {(f"u{u}", f"sku-{i}") for u, i in zip(rng.integers(0, 20, 300), rng.integers(0, 30, 300), strict=True)}
    table = pl.DataFrame(sorted(pairs), schema=["customer", "sku"], orient="row")
    table.write_csv("clicks.csv")
    columns = ["--user-column", "customer", "--item-column", "sku"]
    assert bm3("train", "clicks.csv", *columns, "--out", "run", "--set", "max_epochs=1")[0] == 0
    Path("ids.txt").write_text("u3\nu0\n")
    for suffix, read in ((".parquet", pl.read_parquet), (".csv", pl.read_csv), (".jsonl", pl.read_ndjson)):
        code, out, _ = bm3("recommend", "run", "--users", "ids.txt", "--k", "4", "--out", f"recs{suffix}")
        assert (code, out) == (0, f"recs{suffix}\n")
        found = read(f"recs{suffix}")
        assert found.columns == ["user", "rank", "item", "score"]
        assert found["user"].to_list() == ["u3"] * 4 + ["u0"] * 4
        assert found["rank"].to_list() == [1, 2, 3, 4] * 2
        assert not set(zip(found["user"], found["item"], strict=True)) & pairs
    Path("few.txt").write_text("sku-1\nsku-2\n")
    bm3("recommend", "run", "--users", "ids.txt", "--candidates", "few.txt", "--include-seen", "--out", "few.csv")
    assert set(pl.read_csv("few.csv")["item"]) == {"sku-1", "sku-2"}
    Path("ids.txt").write_text("u3\nnobody\n")
    refused(bm3("recommend", "run", "--users", "ids.txt", "--out", "no.csv"), "'nobody'", "user")
    assert not Path("no.csv").exists()


def test_recommend_for_everyone_by_default(bm3: Run, trained: Path) -> None:
    code, out, _ = bm3("recommend", trained, "--k", "3")
    assert code == 0
    assert pl.read_parquet(out.strip())["user"].n_unique() == 2000


def test_exported_embeddings_give_the_scores(bm3: Run, trained: Path) -> None:
    bm3("recommend", trained, "--k", "1", "--out", "top.csv", "--include-seen")
    top = pl.read_csv("top.csv").row(0, named=True)
    assert bm3("export", trained, "--format", "npy", "--out", "npy")[0] == 0
    scores = np.load("npy/users.npy")[0] @ np.load("npy/items.npy").T
    assert np.load("npy/item_ids.npy")[scores.argmax()] == top["item"]
    assert scores.max() == pytest.approx(top["score"], rel=1e-5)
    assert bm3("export", trained, "--format", "parquet", "--out", "parquet")[0] == 0
    assert pl.read_parquet("parquet/items.parquet")["embedding"].to_numpy().shape == (1000, 64)
    refused(bm3("export", trained, "--format", "npy", "--out", "npy"), "npy: exists already")


def test_an_exported_dataset_is_the_same_dataset(bm3: Run, mmrec: Path) -> None:
    assert bm3("export", mmrec, "--format", "mmrec", "--out", "copy")[0] == 0
    cards = [json.loads(bm3("data", "describe", path, "--json")[1]) for path in (mmrec, "copy")]
    assert cards[0]["fingerprint"] == cards[1]["fingerprint"]


@pytest.mark.parametrize("verb", ["train", "evaluate", "recommend", "import-checkpoint", "export", "data describe"])
def test_help_has_an_example(bm3: Run, verb: str) -> None:
    code, out, _ = bm3(*verb.split(), "--help")
    assert code == 0
    assert f"example:\n  bm3 {verb}" in out


def test_a_missing_column(bm3: Run, mmrec: Path) -> None:
    text = (mmrec / "shop.inter").read_text()
    (mmrec / "shop.inter").write_text(text.replace("itemID", "item", 1))
    refused(bm3("train", mmrec, "--out", "run"), "shop.inter", "itemID")
    assert not Path("run").exists()


def test_a_truncated_feature_file(bm3: Run, mmrec: Path) -> None:
    content = (mmrec / "image_feat.npy").read_bytes()
    (mmrec / "image_feat.npy").write_bytes(content[:-7])
    refused(bm3("train", mmrec), "image_feat.npy")


def test_an_existing_out_without_resume(bm3: Run, mmrec: Path) -> None:
    bm3("train", mmrec, "--out", "run", "--set", "max_epochs=1")
    before = Path("run/metrics.json").read_bytes()
    refused(bm3("train", mmrec, "--out", "run"), "run: exists already")
    assert Path("run/metrics.json").read_bytes() == before


def test_an_out_that_cannot_be_written(bm3: Run, mmrec: Path) -> None:
    Path("file").write_text("")
    refused(bm3("train", mmrec, "--out", "file/run"), "file/run: cannot be written")
    if os.geteuid():
        Path("closed").mkdir(mode=0o500)
        refused(bm3("train", mmrec, "--out", "closed/run"), "closed/run: cannot be written")


def test_an_unknown_key(bm3: Run, mmrec: Path) -> None:
    refused(bm3("train", mmrec, "--set", "num_layer=2"), "unknown key 'num_layer', did you mean 'num_layers'?")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("num_layers=two", "num_layers: got 'two', expected an integer at least 0"),
        ("dropout=1.5", "dropout: got 1.5, expected a number at least 0 and below 1"),
        ("batch_size=0", "batch_size: got 0, expected an integer at least 1"),
        ("lr=nan", "lr: got nan"),
        ("freeze_features=maybe", "freeze_features: got 'maybe', expected true or false"),
        ("modalities=[sound]", "modalities: got 'sound', the dataset has image"),
    ],
)
def test_a_wrong_value(bm3: Run, mmrec: Path, setting: str, message: str) -> None:
    refused(bm3("train", mmrec, "--out", "run", "--set", setting), message)
    assert not Path("run").exists()


def test_a_run_of_another_dataset(bm3: Run, mmrec: Path) -> None:
    bm3("train", mmrec, "--out", "run", "--set", "max_epochs=1")
    other = mmrec.with_name("other")
    shutil.copytree(mmrec, other)
    lines = (other / "shop.inter").read_text().splitlines()
    (other / "shop.inter").write_text("\n".join(lines[:1] + lines[2:]) + "\n")
    refused(bm3("evaluate", "run", "--data", other), "run: trained on another dataset")
    refused(bm3("train", other, "--out", "run", "--resume"), "another dataset")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "expected a dataset"),
        (["train", "dmo"], "dmo"),
        (["train", "demo", "--resume"], "expected --out"),
        (["train", "demo", "--device", "gpu"], "--device: got 'gpu'"),
        (["evaluate", "nowhere"], "nowhere: not a run directory"),
        (["evaluate", "nowhere", "--k", "ten"], "expected integers"),
        (["recommend", "nowhere"], "nowhere: not a run directory"),
        (["import-checkpoint", "no.pth", "--data", "demo", "--out", "run"], "no.pth: no such file"),
        (["export", "nowhere", "--format", "npy", "--out", "x"], "nowhere"),
        (["export", "demo", "--format", "xml", "--out", "x"], "xml"),
        (["fly"], "fly"),
        ([], "COMMAND"),
    ],
)
def test_wrong_commands(bm3: Run, arguments: list[str], message: str) -> None:
    refused(bm3(*arguments), message)


def test_a_list_in_an_unknown_format(bm3: Run, trained: Path) -> None:
    refused(bm3("recommend", trained, "--out", "recs.xlsx"), "recs.xlsx: got suffix '.xlsx'", ".parquet")
