"""Your own catalogue of items and its interactions as a prepared folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from bm3_pyg.data.content import is_stream, is_table, located, streams_kept, table_name
from bm3_pyg.data.hetero import check_modality_word, raw_ids
from bm3_pyg.data.ids import positions, read_id_column, to_series
from bm3_pyg.data.load import load_dataset
from bm3_pyg.data.prepared import is_prepared, write_prepared
from bm3_pyg.data.steps import TEXT, reused, step, text_features
from bm3_pyg.data.table import column, log_notes, read_table, type_of
from bm3_pyg.data.text import DEFAULT, read_text_folder
from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.later import Later

if TYPE_CHECKING:
    import torch
    from torch_geometric.data import HeteroData
else:
    torch = Later("torch")


@streams_kept()
def prepare_catalogue(
    interactions: str | Path,
    items: str | Path | None,
    out: str | Path,
    *,
    text_columns: Sequence[str] = (),
    text_encoder: str | Path | None = DEFAULT,
    features: Mapping[str, str | Path] | None = None,
    user: str = "user",
    item: str = "item",
    time: str | None = None,
    rating: str | None = None,
    label: str | None = None,
    split: str | None = None,
    core: int | None = None,
    seed: int = 0,
    columns: Sequence[str] | None = None,
    id_column: str | None = None,
) -> Path:
    """Prepare your own interactions and items into the folder ``out``, which :func:`bm3_pyg.load_dataset` reads.

    Args:
        interactions: A .csv, .tsv, .jsonl or .parquet table with a row per interaction, or a pipe.
        items: A table of every item (column ``id_column``), in whose order the items are numbered; without it they are
            those that occur, in order of first appearance.
        out: A folder that does not exist yet; one prepared with the same options from the same files is left as it is.
        text_columns: Columns of ``items`` that, joined by spaces, are encoded as the modality ``text``.
        text_encoder: A sentence encoder, by name or path; None where there are no texts.
        features: Per modality a .npy array [I, d] in item order, a table with the column ``item``, or a folder of
            texts, one file per item, which are encoded too.
        user, item, time, rating, label, split, core, seed, columns, id_column: As in :func:`bm3_pyg.load_dataset`.

    Returns:
        ``out``.

    Raises:
        DataError: Something is wrong with a file, or ``out`` holds something else; one line says what.
        ConfigError: An option is unknown or does not go with the others.
    """
    table = located(interactions)
    out, given = Path(out), {name: located(path) for name, path in (features or {}).items()}
    folders = {name: path for name, path in given.items() if path.is_dir()}
    arrays = {name: path for name, path in given.items() if path not in folders.values()}
    listed = None if items is None else located(items)
    _check_texts(listed, text_columns, given)
    if text_encoder is None and (text_columns or folders):
        raise ConfigError("text_encoder: got none, expected one for text_columns and folders of texts")
    settings = {
        "interactions": _name(table),
        "items": None if listed is None else _name(listed),
        "text_columns": list(text_columns),
        "text_encoder": str(text_encoder) if text_columns or folders else None,
        "features": {name: _name(path) for name, path in given.items()},
        **{"user": user, "item": item, "time": time, "rating": rating, "label": label},
        **{"split": split or ("random" if label is None else "label"), "core": core, "seed": seed},
        **{"columns": None if columns is None else list(columns), "id_column": id_column},
    }
    with step("read, filter and split"):
        data = load_dataset(
            table,
            seed=seed,
            user=user,
            item=item,
            time=time,
            rating=rating,
            label=label,
            split=split,
            core=core,
            features=arrays,
            items=listed,
            columns=columns,
            id_column=id_column,
        )
    sources = dict(_named(data, [table, listed, *arrays.values()]))
    texts = {name: read_text_folder(path, to_series(raw_ids(data, "item"))) for name, path in folders.items()}
    settings["folders"] = {name: digest for name, (_, _, _, digest) in texts.items()}
    if is_prepared(out, settings, sources):
        return reused(out)
    if text_columns and listed is not None:
        add_texts(data, TEXT, _column_texts(listed, id_column or item, text_columns, data), str(text_encoder))
    for name, (found, _, notes, _) in texts.items():
        add_texts(data, name, found, str(text_encoder), notes)
    data.name = out.resolve().name
    with step("write"):
        write_prepared(data, out, settings=settings, sources=sources, steps=[])
    return out


def add_texts(data: HeteroData, name: str, texts: Sequence[str], encoder: str, notes: Sequence[str] = ()) -> None:
    """Put the encoded ``texts`` [I] of the items on ``data`` as the modality ``name``; see :func:`text_features`."""
    values, missing, remarks = text_features(texts, name, encoder)
    data["item"][name] = torch.from_numpy(values)
    data["item"][f"{name}_missing"] = torch.from_numpy(missing)
    log_notes([*notes, *remarks])
    data.notes += [*notes, *remarks]


def _check_texts(items: Path | None, columns: Sequence[str], features: Mapping[str, Path]) -> None:
    for name in features:
        check_modality_word(name, "features")
    if columns and (items is None or not is_table(items)):
        raise ConfigError(f"text_columns: items is {items}, expected a .csv, .tsv, .jsonl or .parquet table with them")
    if columns and TEXT in features:
        raise ConfigError(f"features: {TEXT!r} is there already, from text_columns; expected another name")


def _column_texts(items: Path, item: str, columns: Sequence[str], data: HeteroData) -> list[str]:
    """Per item of ``data`` its ``columns`` joined by spaces; whitespace runs become one space."""
    table = read_table(items)
    parts = []
    for name in columns:
        values = column(table, name)
        if values.dtype.is_nested():
            raise DataError(f"{items}: column {name!r} has type {type_of(values)}, expected text")
        parts.append(values.cast(pl.String).fill_null("").to_list())
    at = positions(read_id_column(table, item), to_series(raw_ids(data, "item")))
    return [" ".join(" ".join(part[row] for part in parts).split()) for row in at]


def _name(path: Path) -> str:
    return table_name(path) if is_stream(path) else path.name


def _named(data: HeteroData, paths: Sequence[Path | None]) -> Iterator[tuple[str, Path]]:
    """Each file under the name that ``data.files`` has for it."""
    for path in paths:
        if path is not None:
            own = f"{path.parent.name}/{path.name}"
            yield (own if own in data.files else path.name), path
