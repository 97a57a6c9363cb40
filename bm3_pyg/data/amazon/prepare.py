"""Baby, sports and electronics: from Amazon's raw files, or MMRec's folder, to a prepared folder.

The published graphs are the 5-core of the 2014 reviews (`McAuley et al. 2015 <https://arxiv.org/abs/1506.04757>`_,
`He and McAuley 2016 <https://arxiv.org/abs/1602.01585>`_) with sentence embeddings of the products' texts and the
release's own image features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.amazon.images import read_images
from bm3_pyg.data.amazon.meta import read_texts
from bm3_pyg.data.amazon.raw_files import CORE_OF_REVIEWS, Sources, at_hand, check_name, gather, wanted
from bm3_pyg.data.amazon.release import about, other_counts, other_release, refuse_other_split
from bm3_pyg.data.amazon.reviews import read_interactions
from bm3_pyg.data.amazon.unpack import UNPACKED, unpacked
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
from bm3_pyg.files import clear_leftovers
from bm3_pyg.names import SPLIT_RULES

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

IMAGE = "image"
RULES = tuple(rule for rule in SPLIT_RULES if rule != "label")
Features = dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]


@dataclass(frozen=True)
class Choice:
    """How the raw interactions become a dataset; see :func:`prepare_amazon`."""

    split: str = "random"
    seed: int = 0
    core: int | None = 5


def prepare_amazon(
    name: str,
    root: str | Path,
    *,
    source: str | Path | None = None,
    split: str = "random",
    seed: int = 0,
    core: int | None = 5,
    text_encoder: str | Path | None = DEFAULT,
    images: bool = True,
    urls: Mapping[str, str] | None = None,
    offline: bool = False,
    force: bool = False,
    out: str | Path | None = None,
) -> Path:
    """Prepare a published dataset into a folder that :func:`bm3_pyg.load_dataset` reads.

    Args:
        name: ``"baby"``, ``"sports"`` or ``"electronics"``.
        root: Raw files are kept in ``root/raw``, the prepared folder in ``root/NAME``.
        source: A folder, or a .zip or .tar archive, to take the raw files from; then nothing is downloaded. If it holds
            a .inter file (MMRec's layout), that and the features beside it are used as they are, and its split is the
            published one. Of an archive only the files that are needed are unpacked, below ``root``, and removed.
        split: One of :data:`RULES`; see :func:`bm3_pyg.load_dataset`.
        seed: Of splits drawn at random.
        core: Users and items have at least so many interactions; None keeps all.
        text_encoder: A sentence encoder, by name or path; None leaves the texts out.
        images: Whether to read the image features.
        urls: Other addresses, by name of the file.
        offline: Download nothing.
        force: Download the raw files anew, whatever was recorded of them.
        out: The prepared folder, where it is not ``root/NAME`` (followed by split, seed and core that are not the
            default). One prepared with the same settings from the same files is left as it is.

    Returns:
        The prepared folder.

    Raises:
        DataError: A file is missing, broken, or holds what it should not, or the folder holds something else.
        ConfigError: An option is unknown or does not go with the others.
    """
    check_name(name)
    if split not in RULES:
        raise ConfigError(f"split: got {shown(split)}, {nearest(split, RULES)}")
    check_number("seed", seed, int, 0)
    if core is not None:
        check_number("core", core, int, 1)
    root, source = Path(root), None if source is None else Path(source)
    if source is not None and source.is_file():
        with unpacked(source, name, root) as folder:
            return prepare_amazon(
                name, root, source=folder, split=split, seed=seed, core=core, text_encoder=text_encoder, images=images,
                urls=urls, offline=offline, force=force, out=out,
            )  # fmt: skip
    clear_leftovers(root, UNPACKED)
    if source is not None and not source.is_dir():
        raise DataError(
            f"{source}: {'not a folder' if source.exists() else 'no such folder'}, expected raw files in it"
        )
    choice = Choice(split, seed, core)
    folder = prepared_folder(name, root, choice) if out is None else Path(out)
    if source is not None and any(source.glob("*.inter")):
        if choice != Choice():
            raise ConfigError(f"{source}: its .inter file is split already, expected no split, seed and core")
        if not images:
            raise ConfigError(f"images: got False, but {source} is MMRec's, whose features are used as they are")
        return _prepare_mmrec(name, source, folder)
    encoder = None if text_encoder is None else str(text_encoder)
    settings = {"dataset": name, **asdict(choice), "text_encoder": encoder, "images": images}
    there = at_hand(name, [root / "raw"] if source is None else [source, root / "raw"])
    if not force and is_prepared(folder, settings, there):
        return reused(folder)
    with step("gather"):
        if encoder is not None:
            find_model(encoder)  # before hours of downloads and not after
        names = wanted(name, core, encoder is not None, images, there)
        sources = gather(names, name, root, there, source=source, urls=urls, offline=offline, force=force)
    named = {path.name: path for path in sources.files()}
    if force and is_prepared(folder, settings, named):
        return reused(folder)
    data, steps = _build(folder.name if out is None else name, sources, encoder, choice)
    if core == CORE_OF_REVIEWS:
        doubts = other_counts(name, data)
    else:
        doubts = other_release(name, sources.interactions.name, steps[0]["left"])
    data.notes += doubts
    log_notes(data.notes)
    with step("write"):
        text = about(name, doubt="; ".join(doubts))
        write_prepared(data, folder, settings=settings, sources=named, steps=steps, about=text)
    return folder


def prepared_folder(name: str, root: Path, choice: Choice) -> Path:
    """Where :func:`prepare_amazon` puts a dataset: ``root/baby``, ``root/baby-time``, ``root/baby-seed1-core10``."""
    usual = Choice()
    parts = [
        name,
        *([choice.split] if choice.split != usual.split else []),
        *([f"seed{choice.seed}"] if choice.seed != usual.seed else []),
        *([f"core{choice.core or 0}"] if choice.core != usual.core else []),
    ]
    return root / "-".join(parts)


def _prepare_mmrec(name: str, source: Path, folder: Path) -> Path:
    inter = find_inter(source)
    settings = {"dataset": name, "split": f"as in {inter.name}"}
    data = read_mmrec(inter)
    refuse_other_split(name, inter, data)
    named = {file: source / file for file in data.files}
    if is_prepared(folder, settings, named):
        return reused(folder)
    data.name = name
    log_notes(data.notes)
    with step("write"):
        write_prepared(data, folder, settings=settings, sources=named, steps=[], about=about(name, published=True))
    return folder


def _build(name: str, sources: Sources, encoder: str | None, choice: Choice) -> tuple[HeteroData, list[dict[str, Any]]]:
    """The dataset, and what each step dropped and left."""
    rows, users, items, steps, notes = _interactions(sources.interactions, choice.core)
    with step("split"):
        rows = replace(rows, split=split_rows(rows, choice.split, choice.seed))
    features: Features = {}
    files: dict[str, str] = {}
    texts: list[str] | None = None
    if sources.meta is not None:
        with step("read texts"):
            texts, remarks = read_texts(sources.meta, items)
        notes += remarks
    if sources.images is not None:
        with step("read images"):
            values, missing, files[sources.images.name], remarks = read_images(sources.images, items)
        notes += remarks
        if missing.all():
            raise DataError(
                f"{sources.images}: holds none of the {len(items):,} items' features, expected some"
                + "".join(f" ({remark})" for remark in remarks)
            )
        if missing.any():
            fill_missing(values, missing)
            notes.append(missing_note(IMAGE, int(missing.sum()), len(missing)))
        features[IMAGE] = values, missing
    if texts is not None and encoder is not None:  # last: it takes longest, and any broken file is found before
        values, missing, remarks = text_features(texts, TEXT, encoder)
        features[TEXT] = values, missing
        notes += remarks
    with step("hash sources"):
        files |= {path.name: file_sha256(path) for path in sources.files() if path.name not in files}
    data = build(
        name, rows, user_ids=to_array(users), item_ids=to_array(items), features=features, files=files, notes=notes
    )
    return data, steps


def _interactions(
    path: Path, core: int | None
) -> tuple[Interactions, pl.Series, pl.Series, list[dict[str, Any]], list[str]]:
    """Rows of the k-core, each (user, item) once; ids of users and items in order of first appearance; steps; notes."""
    with step("read interactions"):
        frame, notes = read_interactions(path)
    lengths = [("read", frame.height)]
    with step("filter"):
        frame = frame.unique(["user", "item", "time"], keep="first", maintain_order=True)
        lengths.append(("drop repeated (user, item, time)", frame.height))
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
        lengths.append(("keep the earliest of a repeated (user, item)", len(rows.users)))
        rows, kept_users, kept_items, _ = reduce_to_core(rows, core, path.name)
        lengths.append((f"{core}-core" if core else "no k-core", len(rows.users)))
    steps = [
        {"step": name, "dropped": before - left, "left": left}
        for (_, before), (name, left) in zip(lengths[:1] + lengths, lengths, strict=False)
    ]
    notes += [
        f"{path.name}: {one['step']}: {one['dropped']:,} rows went, {one['left']:,} are left"
        for one in steps
        if one["dropped"]
    ]
    return rows, users[kept_users], items[kept_items], steps, notes
