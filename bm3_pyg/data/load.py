"""One entrance for every kind of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bm3_pyg.data.cache import cached
from bm3_pyg.data.content import file_sha256, is_stream, is_table, located, streams_kept, table_name
from bm3_pyg.data.corrupt import corrupt_features
from bm3_pyg.data.interaction_table import TableOptions, read_interaction_table
from bm3_pyg.data.mmrec import find_inter, read_mmrec
from bm3_pyg.data.planted import PLANTED, make_planted
from bm3_pyg.data.splits import TIMED
from bm3_pyg.data.table import log_notes
from bm3_pyg.errors import ConfigError, DataError, check_number, nearest, shown
from bm3_pyg.names import SPLIT_RULES

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

SLOW_PLANTED = ("planted-sports", "planted-electronics")
READ_ONCE = "</{}>"  # what a pipe is recorded as, which cannot be read again


def load_dataset(
    source: str | Path,
    *,
    seed: int = 0,
    user: str = "user",
    item: str = "item",
    time: str | None = None,
    rating: str | None = None,
    label: str | None = None,
    split: str | None = None,
    core: int | None = None,
    features: Mapping[str, str | Path] | None = None,
    items: str | Path | None = None,
    columns: Sequence[str] | None = None,
    id_column: str | None = None,
    corrupt: str | None = None,
) -> HeteroData:
    """Load a dataset as a graph of users and items; see :mod:`bm3_pyg.data.hetero` for what is where.

    Args:
        source: A planted name (``demo``, ``planted-baby``, ``planted-sports``, ``planted-electronics``; write
            ``./demo`` for a folder of that name), a folder with one .inter file or that file (MMRec's layout), or a
            .csv, .tsv, .jsonl or .parquet table with a row per interaction, compressed (.csv.gz) or not; ``-`` or a
            pipe stands for a table too. All below is for tables only, but ``seed`` and ``corrupt``.
        seed: Of planted data, and of splits drawn at random.
        user: Column of user ids.
        item: Column of item ids, also in feature tables and in ``items``.
        time: Column of times: seconds since 1970 (or milli-, micro- or nanoseconds, by their size), dates, or ISO 8601
            text; UTC where there is no zone.
        rating: Column of ratings.
        label: Column that says each interaction's split: 0, 1, 2 or train, val (valid, validation), test.
        split: ``"random"`` (the published rule: per user one val and one test below ten interactions, else a tenth
            each), ``"leave-one-out"`` (the last is test, the one before it val), ``"time"`` (as many as in random, but
            the latest), ``"global-time"`` (one cut in time for all: the latest tenth is test, the tenth before it val),
            ``"cold-items"`` (a tenth of the items are only in val, another tenth only in test) or ``"label"``.
            Default: ``"label"`` with ``label``, else ``"random"``. In the first three, users with fewer than three
            interactions keep all in training; in the next two, users may have none there, which is noted.
        core: Keep the k-core only: users and items with at least so many interactions among those kept. Features in
            .npy arrays still have a row for every item of the table.
        features: Per modality a .npy array [I, d] in item order, or a table with the column ``item`` and numeric
            columns or one list column. Items without a row, or with an empty cell in it, get the mean of the others
            and are marked in ``<name>_missing``.
        items: A file that lists every item, in order: text, one id a line, or a table with the column ``item``. By
            default the items are those that occur, in order of first appearance.
        columns: The names of the interactions' columns, for text without a header.
        id_column: Column of item ids in feature tables and in ``items``, where it is not called as ``item`` is.
        corrupt: For ablations: ``"shuffled"`` or ``"random"`` features, see
            :func:`~bm3_pyg.data.corrupt.corrupt_features`; for every kind of source.

    Returns:
        The graph. Its global store holds ``name``; ``source``, keyword arguments for this function that give the same
        data again; ``files``, the SHA-256 of each source file; ``notes``, what was merged, filled in or left out, which
        is logged too.

    Raises:
        DataError: Something is wrong with a file; one line names it and the row or column.
        ConfigError: An option does not fit the source or the other options.
    """
    check_number("seed", seed, int, 0)
    if core is not None:
        check_number("core", core, int, 1)
    refuse_pipes({"source": source, "features": features, "items": items})
    options = TableOptions(
        user=user,
        item=item,
        time=time,
        rating=rating,
        label=label,
        split=split,
        core=core,
        features={name: located(path) for name, path in (features or {}).items()},
        items=None if items is None else located(items),
        columns=None if columns is None else list(columns),
        id_column=id_column,
    )
    with streams_kept():
        data = _load(source, options, seed)
    if corrupt is not None:
        origin = data.source
        data = corrupt_features(data, corrupt, seed)
        data.source = {**origin, "corrupt": corrupt, **({"seed": seed} if seed else {})}
    log_notes(data.notes)
    return data


def refuse_pipes(source: Mapping[str, Any]) -> None:
    """Raise a :class:`DataError` where a source's files, as ``data.source`` has them, cannot be read a second time."""
    for path in (source["source"], *(source.get("features") or {}).values(), source.get("items")):
        if str(path).startswith(READ_ONCE[:2]):
            raise DataError(
                f"{path}: was a pipe, which can be read only once; save what it gave as a file and give that in its "
                f"place (on the command line as PATH or --data)"
            )


def _load(source: str | Path, options: TableOptions, seed: int) -> HeteroData:
    """The dataset, with its ``source``: what gives the same data again."""
    path = located(source)
    drawn = {"seed": seed} if seed else {}
    default = vars(TableOptions())
    given = {name: value for name, value in vars(options).items() if value != default[name]}
    if is_table(path):
        data = _load_table(path, options, seed)
        data.source = {"source": _recorded(path), **drawn, **_recorded(given)}
        return data
    inter = None if str(source) in PLANTED else _inter_file(source, path)
    if given:
        raise ConfigError(
            f"{next(iter(given))}: is for .csv, .tsv, .jsonl and .parquet tables only, but the source is {source}"
        )
    if inter is None:
        data = _load_planted(str(source), seed)
        data.source = {"source": str(source), **drawn}
    else:
        data = read_mmrec(inter)
        data.source = {"source": str(path)}
    return data


def _load_table(path: Path, options: TableOptions, seed: int) -> HeteroData:
    rule, label = options.rule, options.label
    if rule not in SPLIT_RULES:
        raise ConfigError(f"split: got {shown(rule)}, {nearest(rule, SPLIT_RULES)}")
    if (rule == "label") != (label is not None):
        raise ConfigError(f"split: {rule!r} and label={label!r} do not go together, expected both or neither")
    if rule in TIMED and options.time is None:
        raise ConfigError(f"split: {rule!r} needs the time column, expected time=COLUMN")
    build = partial(read_interaction_table, path, options, seed)
    files = [path, *options.features.values(), *([options.items] if options.items else [])]
    if not any(map(is_table, options.features.values())) or any(map(is_stream, files)):
        return build()
    hashes = {str(file): file_sha256(file) for file in files}
    recorded = {**_recorded(vars(options)), "split": rule}
    key = {"table": str(path), "seed": seed, "options": recorded, "hashes": hashes}
    data = cached(table_name(path), key, build)
    return data if set(data.files.values()) == set(hashes.values()) else build()  # a file changed between hash and read


def _inter_file(source: str | Path, path: Path) -> Path:
    if path.is_dir():
        return find_inter(path)
    if path.suffix == ".inter" and path.is_file():
        return path
    raise DataError(
        f"{source}: {'not a kind of file known here' if path.exists() else 'no such file, folder or planted name'}, "
        f"expected a folder with one .inter file, an .inter, .csv, .tsv, .jsonl or .parquet file, or planted data "
        f"({nearest(str(source), PLANTED)})"
    )


def _load_planted(name: str, seed: int) -> HeteroData:
    build = partial(make_planted, name, seed)
    return cached(name, {"planted": name, "seed": seed}, build) if name in SLOW_PLANTED else build()


def _recorded(value: Any) -> Any:
    """A path, or options with paths, as JSON can hold them; a pipe as what cannot be read again."""
    if isinstance(value, Mapping):
        return {name: _recorded(entry) for name, entry in value.items()}
    if isinstance(value, Path):
        return READ_ONCE.format(str(value)[1:]) if is_stream(value) else str(value)
    return value
