"""Your own catalogue of items and its interactions as a prepared folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from bm3_pyg.data.content import is_stream, is_table, located, streams_kept, table_name
from bm3_pyg.data.hetero import check_modality_word, raw_ids
from bm3_pyg.data.ids import positions, read_id_column, to_series
from bm3_pyg.data.interaction_table import TableOptions
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
    seed: int = 0,
    **table: Any,
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
        seed: Of splits drawn at random.
        table: ``user``, ``item``, ``time``, ``rating``, ``label``, ``split``, ``core``, ``columns`` and ``id_column``,
            as in :func:`bm3_pyg.load_dataset`.

    Returns:
        ``out``.

    Raises:
        DataError: Something is wrong with a file, or ``out`` holds something else; one line says what.
        ConfigError: An option is unknown or does not go with the others.
    """
    options, out = TableOptions(**table), Path(out)
    path, listed = located(interactions), None if items is None else located(items)
    given = {name: located(file) for name, file in (features or {}).items()}
    folders = {name: file for name, file in given.items() if file.is_dir()}
    arrays = {name: file for name, file in given.items() if name not in folders}
    _check_texts(listed, text_columns, given)
    if text_encoder is None and (text_columns or folders):
        raise ConfigError("text_encoder: got none, expected one for text_columns and folders of texts")
    encoder = str(text_encoder)
    with step("read, filter and split"):
        data = load_dataset(path, seed=seed, features=arrays, items=listed, **table)
    sources = dict(_names(data, [path, listed, *arrays.values()]))
    texts = {name: read_text_folder(file, to_series(raw_ids(data, "item"))) for name, file in folders.items()}
    own = {name: value for name, value in vars(options).items() if name not in ("features", "items")}
    settings = {
        "interactions": _name(path),
        "items": None if listed is None else _name(listed),
        "text_columns": list(text_columns),
        "text_encoder": encoder if text_columns or folders else None,
        "features": {name: _name(file) for name, file in given.items()},
        **own,
        "split": options.rule,
        "seed": seed,
        "columns": None if options.columns is None else list(options.columns),
        "folders": {name: sha256 for name, (_, _, sha256) in texts.items()},
    }
    if is_prepared(out, settings, sources):
        return reused(out)
    if text_columns and listed is not None:
        _add_texts(data, TEXT, _joined_columns(listed, options.item_files_column, text_columns, data), encoder)
    for name, (contents, notes, _) in texts.items():
        _add_texts(data, name, contents, encoder, notes)
    data.name = out.resolve().name
    with step("write"):
        write_prepared(data, out, settings=settings, sources=sources, steps=[])
    return out


def _check_texts(items: Path | None, columns: Sequence[str], features: Mapping[str, Path]) -> None:
    for name in features:
        check_modality_word(name, "features")
    if columns and (items is None or not is_table(items)):
        raise ConfigError(f"text_columns: items is {items}, expected a .csv, .tsv, .jsonl or .parquet table with them")
    if columns and TEXT in features:
        raise ConfigError(f"features: {TEXT!r} is there already, from text_columns; expected another name")


def _joined_columns(items: Path, id_column: str, columns: Sequence[str], data: HeteroData) -> list[str]:
    """Per item of ``data`` its ``columns`` joined by spaces; whitespace runs become one space."""
    table = read_table(items)
    parts = []
    for name in columns:
        values = column(table, name)
        if values.dtype.is_nested():
            raise DataError(f"{items}: column {name!r} has type {type_of(values)}, expected text")
        parts.append(values.cast(pl.String).fill_null("").to_list())
    at = positions(read_id_column(table, id_column), to_series(raw_ids(data, "item")))
    return [" ".join(" ".join(part[row] for part in parts).split()) for row in at]


def _add_texts(data: HeteroData, modality: str, texts: Sequence[str], encoder: str, notes: Sequence[str] = ()) -> None:
    """Put the encoded ``texts`` [I] of the items on ``data``."""
    values, missing, remarks = text_features(texts, modality, encoder)
    data["item"][modality] = torch.from_numpy(values)
    data["item"][f"{modality}_missing"] = torch.from_numpy(missing)
    log_notes([*notes, *remarks])
    data.notes += [*notes, *remarks]


def _name(path: Path) -> str:
    return table_name(path) if is_stream(path) else path.name


def _names(data: HeteroData, paths: Sequence[Path | None]) -> Iterator[tuple[str, Path]]:
    """Each file under the name that ``data.files`` has for it."""
    for path in paths:
        if path is not None:
            own = f"{path.parent.name}/{path.name}"
            yield (own if own in data.files else path.name), path
