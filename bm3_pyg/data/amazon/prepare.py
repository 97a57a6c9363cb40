"""Baby, sports and electronics: from Amazon's raw files, or MMRec's folder, to a prepared folder.

The published graphs are the 5-core of the 2014 reviews (`McAuley et al. 2015 <https://arxiv.org/abs/1506.04757>`_,
`He and McAuley 2016 <https://arxiv.org/abs/1602.01585>`_) with sentence embeddings of the products' texts and the
release's own image features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.amazon.images import read_images
from bm3_pyg.data.amazon.meta import read_texts
from bm3_pyg.data.amazon.raw_files import Origin, RawPaths, at_hand, gather, opened, wanted
from bm3_pyg.data.amazon.release import (
    CORE_OF_REVIEWS,
    about,
    category_of,
    compare_counts,
    compare_rows,
    refuse_other_split,
)
from bm3_pyg.data.amazon.reviews import read_interactions
from bm3_pyg.data.content import file_sha256
from bm3_pyg.data.features import fill_missing, missing_note
from bm3_pyg.data.hetero import build
from bm3_pyg.data.ids import first_appearance, to_array
from bm3_pyg.data.mmrec import find_inter, read_mmrec
from bm3_pyg.data.prepared import is_prepared, write_prepared
from bm3_pyg.data.splits import Interactions, merge_duplicates, reduce_to_core, split_rows
from bm3_pyg.data.steps import TEXT, reused, step, text_features
from bm3_pyg.data.table import log_notes
from bm3_pyg.data.text import DEFAULT, find_model
from bm3_pyg.errors import ConfigError, DataError, check_number, nearest, shown
from bm3_pyg.names import SPLIT_RULES

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

IMAGE = "image"
RULES = tuple(rule for rule in SPLIT_RULES if rule != "label")


@dataclass(frozen=True)
class Preprocessing:
    """How raw files become a dataset; each field is a keyword argument of :func:`prepare_amazon` too.

    Attributes:
        split: One of :data:`RULES`; see :func:`bm3_pyg.load_dataset`.
        seed: Of splits drawn at random.
        core: Users and items have at least so many interactions; None keeps all.
        text_encoder: A sentence encoder, by name or path; None leaves the texts out.
        images: Whether to read the image features.
    """

    split: str = "random"
    seed: int = 0
    core: int | None = 5
    text_encoder: str | Path | None = DEFAULT
    images: bool = True

    def __post_init__(self) -> None:
        if self.split not in RULES:
            raise ConfigError(f"split: got {shown(self.split)}, {nearest(self.split, RULES)}")
        check_number("seed", self.seed, int, 0)
        if self.core is not None:
            check_number("core", self.core, int, 1)

    @property
    def encoder(self) -> str | None:
        """``text_encoder`` as text."""
        return None if self.text_encoder is None else str(self.text_encoder)


def prepare_amazon(
    name: str,
    root: str | Path,
    *,
    source: str | Path | None = None,
    out: str | Path | None = None,
    urls: Mapping[str, str] | None = None,
    offline: bool = False,
    force: bool = False,
    **preprocessing: Any,
) -> Path:
    """Prepare a published dataset into a folder that :func:`bm3_pyg.load_dataset` reads.

    Args:
        name: ``"baby"``, ``"sports"`` or ``"electronics"``.
        root: Raw files are kept in ``root/raw``, the prepared folder in ``root/NAME``.
        source: A folder, or a .zip or .tar archive, to take the raw files from; then nothing is downloaded. If it holds
            a .inter file (MMRec's layout), that and the features beside it are used as they are, and its split is the
            published one. Of an archive only the files that are needed are unpacked, below ``root``, and removed.
        out: The prepared folder, where it is not ``root/NAME`` (followed by split, seed and core that are not the
            default). One prepared with the same settings from the same files is left as it is.
        urls: Other addresses, by name of the file.
        offline: Download nothing.
        force: Download the raw files anew, whatever was recorded of them.
        preprocessing: ``split="random"``, ``seed=0``, ``core=5``, ``text_encoder="all-MiniLM-L6-v2"``, ``images=True``:
            see :class:`Preprocessing`.

    Returns:
        The prepared folder.

    Raises:
        DataError: A file is missing, broken, or holds what it should not, or the folder holds something else.
        ConfigError: An option is unknown or does not go with the others.
    """
    category_of(name)
    how, root = Preprocessing(**preprocessing), Path(root)
    folder = prepared_folder(name, root, how) if out is None else Path(out)
    title = folder.name if out is None else name
    with opened(None if source is None else Path(source), name, root) as given:
        if given is not None and any(given.glob("*.inter")):
            return _prepare_mmrec(name, given, folder, how)
        return _prepare_raw(name, title, Origin(root, given, urls or {}, offline, force), folder, how)


def prepared_folder(name: str, root: Path, how: Preprocessing) -> Path:
    """Where :func:`prepare_amazon` puts a dataset: ``root/baby``, ``root/baby-time``, ``root/baby-seed1-core10``."""
    usual = Preprocessing()
    parts = [
        name,
        *([how.split] if how.split != usual.split else []),
        *([f"seed{how.seed}"] if how.seed != usual.seed else []),
        *([f"core{how.core or 0}"] if how.core != usual.core else []),
    ]
    return root / "-".join(parts)


def _prepare_mmrec(name: str, source: Path, folder: Path, how: Preprocessing) -> Path:
    if replace(how, text_encoder=DEFAULT, images=True) != Preprocessing():
        raise ConfigError(f"{source}: its .inter file is split already, expected no split, seed and core")
    if not how.images:
        raise ConfigError(f"images: got False, but {source} is MMRec's, whose features are used as they are")
    inter = find_inter(source)
    settings = {"dataset": name, "split": f"as in {inter.name}"}
    data = read_mmrec(inter)
    refuse_other_split(name, inter, data)
    sources = {file: source / file for file in data.files}
    if is_prepared(folder, settings, sources):
        return reused(folder)
    data.name = name
    log_notes(data.notes)
    with step("write"):
        write_prepared(data, folder, settings=settings, sources=sources, steps=[], about=about(name, published=True))
    return folder


def _prepare_raw(name: str, title: str, origin: Origin, folder: Path, how: Preprocessing) -> Path:
    settings = {"dataset": name, **asdict(how), "text_encoder": how.encoder}
    there = at_hand(name, origin.folders)
    if not origin.force and is_prepared(folder, settings, there):
        return reused(folder)
    with step("gather"):
        if how.encoder is not None:
            find_model(how.encoder)  # before hours of downloads and not after
        files = gather(name, wanted(name, how.core, how.encoder is not None, how.images, there), origin)
    if origin.force and is_prepared(folder, settings, files.by_name()):
        return reused(folder)
    data, steps = _build(title, files, how)
    if how.core == CORE_OF_REVIEWS:
        doubts = compare_counts(name, data)
    else:
        doubts = compare_rows(name, files.interactions.name, steps[0]["left"])
    data.notes += doubts
    log_notes(data.notes)
    with step("write"):
        text = about(name, doubt="; ".join(doubts))
        write_prepared(data, folder, settings=settings, sources=files.by_name(), steps=steps, about=text)
    return folder


def _build(title: str, files: RawPaths, how: Preprocessing) -> tuple[HeteroData, list[dict[str, Any]]]:
    """The dataset, and what each step of filtering dropped and left."""
    core = _k_core(files.interactions, how.core)
    with step("split"):
        rows = replace(core.rows, split=split_rows(core.rows, how.split, how.seed))
    features: dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]] = {}
    hashes: dict[str, str] = {}
    notes, texts = [*core.notes], None
    if files.meta is not None:
        with step("read texts"):
            texts, remarks = read_texts(files.meta, core.items)
        notes += remarks
    if files.images is not None:
        with step("read images"):
            values, missing, hashes[files.images.name], remarks = read_images(files.images, core.items)
        _fill_images(files.images, values, missing, remarks)
        features[IMAGE] = values, missing
        notes += remarks
    if texts is not None and how.encoder is not None:  # last: it takes longest, and any broken file is found before
        values, missing, remarks = text_features(texts, TEXT, how.encoder)
        features[TEXT] = values, missing
        notes += remarks
    with step("hash sources"):
        hashes |= {file: file_sha256(path) for file, path in files.by_name().items() if file not in hashes}
    users, items = to_array(core.users), to_array(core.items)
    data = build(title, rows, user_ids=users, item_ids=items, features=features, files=hashes, notes=notes)
    return data, core.steps


def _fill_images(path: Path, values: NDArray[np.float32], missing: NDArray[np.bool_], notes: list[str]) -> None:
    """Give items without an image the mean of the others, with a note."""
    if missing.all():
        raise DataError(
            f"{path}: holds none of the {len(missing):,} items' features, expected some"
            + "".join(f" ({note})" for note in notes)
        )
    if missing.any():
        fill_missing(values, missing)
        notes.append(missing_note(IMAGE, int(missing.sum()), len(missing)))


class _Core(NamedTuple):
    """Interactions of the k-core, each (user, item) once."""

    rows: Interactions  # not split yet
    users: pl.Series  # own ids in order of first appearance
    items: pl.Series
    steps: list[dict[str, Any]]  # what each dropped and left, for the card
    notes: list[str]


def _k_core(path: Path, core: int | None) -> _Core:
    with step("read interactions"):
        frame, notes = read_interactions(path)
    left = {"read": frame.height}
    with step("filter"):
        frame = frame.unique(["user", "item", "time"], keep="first", maintain_order=True)
        left["drop repeated (user, item, time)"] = frame.height
        users, user_at = first_appearance(frame["user"])
        items, item_at = first_appearance(frame["item"])
        rows = Interactions(
            user_at,
            item_at,
            np.zeros(frame.height, dtype=np.int8),
            time=frame["time"].to_numpy(),
            rating=frame["rating"].to_numpy(),
        )
        rows, _ = merge_duplicates(rows, path.name)
        left["keep the earliest of a repeated (user, item)"] = len(rows.users)
        rows, kept_users, kept_items, _ = reduce_to_core(rows, core, path.name)
        left[f"{core}-core" if core else "no k-core"] = len(rows.users)
    steps = [
        {"step": name, "dropped": before - after, "left": after}
        for before, (name, after) in zip([left["read"], *left.values()], left.items(), strict=False)
    ]
    notes += [
        f"{path.name}: {made['step']}: {made['dropped']:,} rows went, {made['left']:,} are left"
        for made in steps
        if made["dropped"]
    ]
    return _Core(rows, users[kept_users], items[kept_items], steps, notes)
