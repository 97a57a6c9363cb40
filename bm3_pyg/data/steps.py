"""Steps that preparing any dataset takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bm3_pyg.data.features import fill_missing, missing_note
from bm3_pyg.data.text import encode_texts
from bm3_pyg.errors import DataError

TEXT = "text"
"""The modality of encoded texts."""

logger = logging.getLogger("bm3_pyg.prepare")


@contextmanager
def step(name: str) -> Iterator[None]:
    """Log the seconds that a step took."""
    start = time.perf_counter()
    yield
    logger.info("%s: %.1f s", name, time.perf_counter() - start)


def reused(folder: Path) -> Path:
    """``folder``, with a word that it was there already."""
    logger.info("%s was prepared before from the same files and settings", folder)
    return folder


def text_features(
    texts: Sequence[str], modality: str, encoder: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[str]]:
    """Embeddings of the items' texts.

    Args:
        texts: One an item [I].
        modality: What they are called in messages.
        encoder: As in :func:`bm3_pyg.data.text.encode_texts`.

    Returns:
        Values [I, d]; the mask [I] of items whose text is empty, which are given the mean of the others; notes.

    Raises:
        DataError: Every text is empty.
        ConfigError: The encoder cannot be had.
    """
    missing = np.array([not text.strip() for text in texts], dtype=bool)
    if missing.all():
        raise DataError(f"{modality}: none of the {len(missing):,} items has a text, expected some")
    with step("encode texts"):
        encoded = encode_texts([text for text in texts if text.strip()], encoder)
    if not missing.any():
        return encoded, missing, []
    values = np.empty((len(missing), encoded.shape[1]), dtype=np.float32)
    values[~missing] = encoded
    fill_missing(values, missing)
    return values, missing, [missing_note(modality, int(missing.sum()), len(missing))]
