"""Runs as a user makes and uses them, and every kind of bad input: exit 2 and one clear line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bm3_pyg.timeline import PARTS

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., None]


def test_train_prints_a_table_and_the_run(bm3: Run) -> None:
    code, out, _ = bm3("train", "demo", "--set", "max_epochs=1", "--seed", "3")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split("|")[2].strip() == "Recall@10"
    assert lines[2].startswith("| BM3 (epoch 1)")
    assert lines[3].startswith("| Popularity")
    assert lines[-1] == "runs/demo"
    assert json.loads(Path("runs/demo/metrics.json").read_text())["seed"] == 3
    command = json.loads(Path("runs/demo/environment.json").read_text())["command"]
    assert command == ["bm3", "train", "demo", "--set", "max_epochs=1", "--seed", "3"]
    assert bm3("train", "demo", "--set", "max_epochs=1")[1].splitlines()[-1] == "runs/demo-2"


def test_train_evaluate_and_resume_on_a_folder(bm3: Run, shop: Path) -> None:
    assert bm3("train", shop, "--out", "run", "--set", "max_epochs=2")[0] == 0
    code, out, _ = bm3("evaluate", "run", "--k", "5,10", "--json")
    assert code == 0
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert json.loads(out)["metrics"] == {k: v for k, v in metrics["test"].items() if k.endswith(("@5", "@10"))}
    assert "HitRate" in bm3("evaluate", "run", "--split", "val", "--mask", "seen")[1]
    code, out, _ = bm3("train", "--resume", "--out", "run", "--set", "max_epochs=4")
    assert code == 0
    assert len(Path("run/history.jsonl").read_text().splitlines()) == 4


def test_a_profile_says_where_the_time_went(bm3: Run, shop: Path) -> None:
    code, out, err = bm3("train", shop, "--out", "run", "--profile", "--set", "max_epochs=1")
    assert code == 0
    assert out.splitlines()[-1] == "run"
    lines = err.splitlines()
    start = next(place for place, line in enumerate(lines) if line.split() == ["seconds", "share"])
    table, beside = lines[start : start + len(PARTS) + 2], lines[start + len(PARTS) + 2 :]
    assert [line.split()[2] for line in table[1:-1]] == [*PARTS]
    assert [line.split()[1] for line in beside] == ["write"]
    recorded = json.loads(Path("run/environment.json").read_text())["seconds"]
    assert sum(recorded.values()) <= float(table[-1].split()[0]) + 0.1


def test_tensorboard_events_go_into_the_run(bm3: Run, shop: Path) -> None:
    pytest.importorskip("tensorboard")
    assert bm3("train", shop, "--out", "run", "--tensorboard", "--set", "max_epochs=1")[0] == 0
    assert list(Path("run/tensorboard").iterdir())


def test_recommendations_speak_the_users_ids(bm3: Run, tmp_path: Path, assert_refused: Refused) -> None:
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
    strict = ["recommend", "run", "--users", "ids.txt", "--strict", "--out", "no.csv"]
    assert_refused(bm3(*strict), "'nobody'", "user")
    assert not Path("no.csv").exists()


def test_unknown_ids_are_left_out_and_counted(
    bm3: Run, trained: Path, assert_refused: Refused, caplog: pytest.LogCaptureFixture
) -> None:
    Path("users.txt").write_text("5\nnobody\n6\n")
    Path("items.txt").write_text("1\n2\nnothing\n3\nnowhere\n")
    lists = ["recommend", trained, "--users", "users.txt", "--candidates", "items.txt", "--include-seen", "--out"]
    assert bm3(*lists, "lists.csv")[0] == 0
    assert "1 of 3 user ids are unknown to demo and left out: 'nobody'" in caplog.text
    assert "2 of 5 item ids are unknown to demo and left out: 'nothing'" in caplog.text
    table = pl.read_csv("lists.csv")
    assert set(table["user"]) == {5, 6}
    assert set(table["item"]) == {1, 2, 3}
    assert_refused(bm3(*lists, "no.csv", "--strict"), "item")
    Path("users.txt").write_text("nobody\nnoone\n")
    assert_refused(bm3(*lists, "no.csv"), "user")
    assert not Path("no.csv").exists()

    caplog.clear()
    Path("new.csv").write_text("user,item\nanna,1\nanna,nothing\nben,nowhere\n")
    new = ["recommend", trained, "--new-users", "new.csv", "--k", "2", "--out"]
    assert bm3(*new, "new.parquet")[0] == 0
    assert "2 of 3 item ids are unknown" in caplog.text
    assert "1 of 2 new users have no item with training interactions" in caplog.text
    table = pl.read_parquet("new.parquet")
    assert table["user"].to_list() == ["anna", "anna", "ben", "ben"]
    assert table["score"].is_null().to_list() == [False, False, True, True]
    assert "there in training" not in caplog.text
    assert_refused(bm3(*new, "no.parquet", "--strict"), "item")

    Path("new.csv").write_text("user,item\nanna,1\n5,2\n")
    assert bm3(*new, "new.parquet")[0] == 0
    assert "1 of 2 new users were there in training, too" in caplog.text
    Path("items.txt").write_text("1\nnothing\n")
    assert bm3("similar", trained, "--items", "items.txt", "--k", "1", "--out", "similar.csv")[0] == 0
    assert set(pl.read_csv("similar.csv")["item"]) == {1}
    assert_refused(bm3("similar", trained, "--items", "items.txt", "--strict"), "'nothing'")


@pytest.fixture
def half_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, set[str], set[str]]:
    """A table of 30 users and 20 items, and those that have no training interactions."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    pairs = sorted({(int(u), int(i)) for u, i in zip(rng.integers(0, 30, 400), rng.integers(0, 20, 400), strict=True)})
    rows = [(f"u{u}", f"i{i}", "train" if u < 24 and i < 15 else "test") for u, i in pairs]
    pl.DataFrame(rows, schema=["user", "item", "label"], orient="row").write_csv("clicks.csv")
    image = {"item": [f"i{i}" for i in range(20)], "a": rng.random(20), "b": rng.random(20)}
    pl.DataFrame(image).write_csv("image.csv")
    return tmp_path / "clicks.csv", {f"u{u}" for u in range(24, 30)}, {f"i{i}" for i in range(15, 20)}


@pytest.mark.parametrize("model", ["bm3", "popularity", "itemknn", "bprmf", "lightgcn", "vbpr", "freedom"])
def test_nothing_is_made_of_users_and_items_without_training_interactions(
    bm3: Run, half_known: tuple[Path, set[str], set[str]], model: str, caplog: pytest.LogCaptureFixture
) -> None:
    clicks, users, items = half_known
    table = ["--label-column", "label", "--features", "image=image.csv", "--set", "max_epochs=1"]
    code, _, err = bm3("train", clicks, *table, "--model", model, "--out", "run")
    assert code == 0, err
    caplog.clear()
    assert bm3("recommend", "run", "--k", "20", "--include-seen", "--out", "lists.csv")[0] == 0
    lists = pl.read_csv("lists.csv")
    assert lists["user"].n_unique() == 30
    assert not set(lists["item"]) & items
    assert "5 of 20 items have no training interactions and are not offered" in caplog.text
    counts = pl.read_csv(clicks).filter(pl.col("label") == "train").group_by("item").len()
    train = dict(counts.iter_rows())
    for name in users:
        offered = lists.filter(pl.col("user") == name)
        popularity = [train[item] for item in offered["item"]]
        assert popularity == sorted(train.values(), reverse=True)
        if model != "popularity":
            assert offered["score"].is_null().all()
    assert lists.filter(~pl.col("user").is_in(users))["score"].null_count() == 0
    if model != "popularity":
        assert "6 of 30 users have no training interactions and are offered the most popular items" in caplog.text


def test_lists_of_cold_items_alone_and_among_the_others(
    bm3: Run, half_known: tuple[Path, set[str], set[str]], assert_refused: Refused, caplog: pytest.LogCaptureFixture
) -> None:
    clicks, _, items = half_known
    table = ["--label-column", "label", "--features", "image=image.csv", "--set", "max_epochs=1"]
    assert bm3("train", clicks, *table, "--out", "run")[0] == 0
    recommend = ["recommend", "run", "--k", "20", "--include-seen", "--out", "lists.csv"]
    caplog.clear()
    assert bm3(*recommend, "--cold")[0] == 0
    lists = pl.read_csv("lists.csv")
    assert lists.group_by("user").len()["len"].to_list() == [5] * 24
    assert set(lists["item"]) == items
    assert "6 of 30 users have no training interactions and are offered nothing" in caplog.text
    assert bm3(*recommend, "--with-cold")[0] == 0
    assert pl.read_csv("lists.csv").group_by("user").len()["len"].to_list() == [20] * 30
    Path("ids.txt").write_text("i1\ni17\n")
    similar = ["similar", "run", "--items", "ids.txt", "--k", "20", "--out", "similar.csv"]
    assert bm3(*similar)[0] == 0
    found = pl.read_csv("similar.csv")
    assert set(found["item"]) == {"i1"}
    assert not set(found["similar"]) & items
    assert "1 of the 2 items to compare with have no training interactions" in caplog.text
    assert bm3(*similar, "--cold")[0] == 0
    assert pl.read_csv("similar.csv").group_by("item", maintain_order=True).len().rows() == [("i1", 5), ("i17", 4)]
    assert bm3(*similar, "--with-cold")[0] == 0
    assert pl.read_csv("similar.csv")["similar"].n_unique() == 20
    Path("ids.txt").write_text("i17\n")
    assert_refused(bm3(*similar), "1 of the 1 items to compare with have no training interactions")
    assert_refused(bm3(*recommend, "--candidates", "ids.txt"), "none of the 1 candidates has training interactions")
    assert_refused(bm3(*recommend, "--cold", "--with-cold"), "not allowed with")
    assert "ranking of 5 items" in bm3("evaluate", "run", "--cold", "--k", "5")[1]
    full, placed = (json.loads(bm3("evaluate", "run", "--json", *words)[1]) for words in ([], ["--with-cold"]))
    assert full["ranking"] == placed["ranking"] == "full ranking"
    assert full["metrics"] == json.loads(Path("run/metrics.json").read_text())["test"]
    assert bm3("train", clicks, *table, "--model", "vbpr", "--out", "vbpr")[0] == 0
    assert_refused(bm3("recommend", "vbpr", "--cold"), "cold items: got VBPR, expected a BM3")
    by = ["--model", "itemknn", "--out", "knn", "--set", "by=image"]
    assert bm3("train", clicks, *table[:-2], *by)[0] == 0
    assert bm3("recommend", "knn", "--cold", "--out", "knn.csv")[0] == 0
    assert set(pl.read_csv("knn.csv")["item"]) <= items


def test_recommend_for_everyone_by_default(bm3: Run, trained: Path) -> None:
    code, out, _ = bm3("recommend", trained, "--k", "3")
    assert code == 0
    assert pl.read_parquet(out.strip())["user"].n_unique() == 2000


def test_a_missing_column(bm3: Run, shop: Path, assert_refused: Refused) -> None:
    text = (shop / "shop.inter").read_text()
    (shop / "shop.inter").write_text(text.replace("itemID", "item", 1))
    assert_refused(bm3("train", shop, "--out", "run"), "shop.inter", "itemID")
    assert not Path("run").exists()


def test_a_truncated_feature_file(bm3: Run, shop: Path, assert_refused: Refused) -> None:
    content = (shop / "image_feat.npy").read_bytes()
    (shop / "image_feat.npy").write_bytes(content[:-7])
    assert_refused(bm3("train", shop), "image_feat.npy")


def test_an_existing_out_without_resume(bm3: Run, shop: Path, assert_refused: Refused) -> None:
    bm3("train", shop, "--out", "run", "--set", "max_epochs=1")
    before = Path("run/metrics.json").read_bytes()
    assert_refused(bm3("train", shop, "--out", "run"), "run: exists already")
    assert Path("run/metrics.json").read_bytes() == before


def test_an_out_that_cannot_be_written(bm3: Run, shop: Path, assert_refused: Refused) -> None:
    Path("file").write_text("")
    assert_refused(bm3("train", shop, "--out", "file/run"), "file/run: cannot be written")
    if os.geteuid():
        Path("closed").mkdir(mode=0o500)
        assert_refused(bm3("train", shop, "--out", "closed/run"), "closed/run: cannot be written")


def test_an_unknown_key(bm3: Run, shop: Path, assert_refused: Refused) -> None:
    assert_refused(bm3("train", shop, "--set", "num_layer=2"), "unknown key 'num_layer', did you mean 'num_layers'?")


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
def test_a_wrong_value(bm3: Run, shop: Path, setting: str, message: str, assert_refused: Refused) -> None:
    assert_refused(bm3("train", shop, "--out", "run", "--set", setting), message)
    assert not Path("run").exists()


def test_a_run_of_another_dataset(bm3: Run, shop: Path, assert_refused: Refused) -> None:
    bm3("train", shop, "--out", "run", "--set", "max_epochs=1")
    other = shop.with_name("other")
    shutil.copytree(shop, other)
    lines = (other / "shop.inter").read_text().splitlines()
    (other / "shop.inter").write_text("\n".join(lines[:1] + lines[2:]) + "\n")
    assert_refused(bm3("evaluate", "run", "--data", other), "run: trained on another dataset")
    assert_refused(bm3("train", other, "--out", "run", "--resume"), "another dataset")


def test_a_list_in_an_unknown_format(bm3: Run, trained: Path, assert_refused: Refused) -> None:
    assert_refused(bm3("recommend", trained, "--out", "recs.xlsx"), "recs.xlsx: got suffix '.xlsx'", ".parquet")


def test_evaluation_among_candidates_cold_items_and_samples(bm3: Run, assert_refused: Refused, tmp_path: Path) -> None:
    rows = [(f"u{u}", f"i{(u + j) % 10}") for u in range(12) for j in range(7)]
    pl.DataFrame(rows, schema=["user", "item"], orient="row").write_csv("clicks.csv")
    np.save("image.npy", np.random.default_rng(0).standard_normal((10, 5), dtype=np.float32))
    train = ["train", "clicks.csv", "--features", "image=image.npy", "--split", "cold-items", "--set", "max_epochs=1"]
    code, out, err = bm3(*train, "--out", "run")
    assert code == 0, err
    assert "ranking of the split's cold items" in out
    found = json.loads(bm3("evaluate", "run", "--cold", "--json")[1])
    saved = json.loads(Path("run/metrics.json").read_text())["test"]
    assert found["metrics"] == saved
    assert found["ranking"] == "ranking of 1 items"
    assert found["metrics"]["recall@5"] == 1.0  # the one candidate is found
    Path("few.txt").write_text("".join(f"i{item}\n" for item in range(10)))
    assert "ranking of 10 items" in bm3("evaluate", "run", "--candidates", "few.txt", "--k", "1")[1]
    pytest.importorskip("ogb")
    out = bm3("evaluate", "run", "--sampled", "2")[1]
    assert "NOT a full ranking" in out
    assert_refused(bm3("evaluate", "run", "--sampled", "2", "--k", "5"), "--k: got it with --sampled")


def test_the_preset_plus(bm3: Run, assert_refused: Refused, shop: Path) -> None:
    assert bm3("train", shop, "--preset", "plus", "--out", "run", "--set", "max_epochs=1")[0] == 0
    config = Path("run/config.yaml").read_text()
    assert "align_weight: 0" in config
    assert "num_layers: 2" in config
    assert_refused(bm3("train", shop, "--preset", "plus", "--model", "lightgcn"), "--preset: is for bm3")


def test_cold_without_cold_items(bm3: Run, assert_refused: Refused, trained: Path) -> None:
    assert_refused(bm3("evaluate", trained, "--cold"), "--cold: every item in the test split of demo has training")


def test_lists_for_new_users_and_similar_items(bm3: Run, assert_refused: Refused, trained: Path) -> None:
    Path("new.csv").write_text("user,item\nanna,1\nanna,2\nben,7\n")
    code, out, _ = bm3("recommend", trained, "--new-users", "new.csv", "--k", "3", "--out", "new.parquet")
    assert code == 0
    table = pl.read_parquet("new.parquet")
    assert table["user"].to_list() == ["anna"] * 3 + ["ben"] * 3
    assert not {("anna", 1), ("anna", 2), ("ben", 7)} & set(table.select("user", "item").rows())
    assert_refused(bm3("recommend", trained, "--new-users", "new.csv", "--users", "x"), "--new-users: got it with")
    Path("ids.txt").write_text("5\n6\n")
    code, out, _ = bm3("similar", trained, "--items", "ids.txt", "--k", "2")
    assert code == 0
    assert len(out.splitlines()) == 2 + 4
    assert bm3("similar", trained, "--items", "ids.txt", "--cold", "--out", "similar.csv")[0] == 0
    assert pl.read_csv("similar.csv").columns == ["item", "rank", "similar", "cosine"]
    assert_refused(bm3("similar", trained, "--items", "ids.txt", "--out", "similar.txt"), "similar.txt")


@pytest.mark.parametrize("model", ["popularity", "itemknn", "bprmf", "lightgcn", "vbpr", "freedom"])
def test_every_model_trains_and_recommends(bm3: Run, shop: Path, model: str) -> None:
    code, out, err = bm3("train", shop, "--model", model, "--out", "run", "--set", "max_epochs=1")
    assert code == 0, err
    assert ("Popularity (epoch 0)" in out) == (model == "popularity")
    assert json.loads(Path("run/metrics.json").read_text())["model"] == model
    assert bm3("evaluate", "run")[0] == 0
    assert bm3("recommend", "run", "--k", "2")[0] == 0
    assert bm3("train", "--resume", "--out", "run")[0] == 0
