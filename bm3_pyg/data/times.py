"""Times as Unix seconds, from numbers, dates and ISO 8601 text."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.table import Table, present, refuse_new_nulls, type_of
from bm3_pyg.errors import DataError, shown

LATEST = 4_102_444_800  # the first second of 2100
EARLIEST = 100_000_000  # in 1973; smaller numbers may be anything
UNITS = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
DATES = ("%Y-%m-%d", "%Y%m%d", "%G-W%V-%u", "%GW%V%u", "%Y-%j")
ISO = (
    r"^(\d{4}-\d{2}-\d{2}|\d{8}|\d{4}-W\d{2}-\d|\d{4}W\d{3}|\d{4}-\d{3})"
    r"(?:[Tt ](\d{2})(?::?(\d{2})(?::?(\d{2})(?:[.,](\d+))?)?)?"
    r" ?([Zz]|UTC|GMT|([+-])(\d{2})(?::?(\d{2}))?)?)?$"
)
EXPECTED = "Unix seconds or an ISO 8601 time"


def times(table: Table, name: str) -> NDArray[Any]:
    """Column ``name`` as Unix time in seconds: int64 where every time is a whole second, else float64.

    Numbers are seconds since 1970, or milli-, micro- or nanoseconds where seconds would lie after 2099; dates and
    date-times (also as ISO 8601 text) are UTC unless they carry a zone. ``table.notes`` tells of conversions.

    Raises:
        DataError: A cell is empty or no time; the message names the row.
    """
    values = present(table, name)
    kind = values.dtype.base_type()
    if kind in (pl.Date, pl.Datetime):
        moments = values.cast(pl.Datetime("us")) if kind == pl.Date else values
        return _whole(moments.dt.timestamp("us").to_numpy() / 1e6)
    if kind != pl.String and not values.dtype.is_numeric():
        raise DataError(f"{table.path}: column {name!r} has type {type_of(values)}, expected times")
    numbers = _numbers(values)
    if kind == pl.String and numbers.null_count():
        moments, zoned = _iso(values)
        if moments.null_count() <= numbers.null_count():
            refuse_new_nulls(table, name, values, moments, EXPECTED)
            if zoned.any() and not zoned.all():
                without = f"{(~zoned).sum():,} of {len(zoned):,} times have no zone"
                table.notes.append(f"{table.path.name}: {name}: {without} and are taken for UTC")
            return _whole(moments.to_numpy())
    refuse_new_nulls(table, name, values, numbers, EXPECTED)
    if (dates := _calendar(numbers)) is not None:
        table.notes.append(f"{table.path.name}: {name} holds dates such as {values[0]}, which are read as such")
        return _whole(dates.to_numpy())
    return _in_seconds(table, name, numbers)


def _numbers(values: pl.Series) -> pl.Series:
    """Int64 if all are integers, else Float64; null where there is no finite number."""
    whole = values.cast(pl.Int64, strict=False)
    if not values.dtype.is_float() and whole.null_count() == 0:
        return whole
    numbers = values.cast(pl.Float64, strict=False)
    return numbers.set(~numbers.is_finite(), None)


def _calendar(numbers: pl.Series) -> pl.Series | None:
    """Seconds of numbers that are all written YYYYMMDD or YYYYMMDDhhmmss."""
    if numbers.dtype != pl.Int64:
        return None
    texts = numbers.cast(pl.String)
    if texts.str.contains(r"^(19|20)\d{6}$").all():
        moments, _ = _iso(texts)
    elif texts.str.contains(r"^(19|20)\d{12}$").all():
        moments, _ = _iso(texts.str.slice(0, 8) + "T" + texts.str.slice(8))
    else:
        return None
    return None if moments.null_count() else moments


def _in_seconds(table: Table, name: str, numbers: pl.Series) -> NDArray[Any]:
    size = numbers.abs()
    unit, scale = next((unit for unit in UNITS if (size < LATEST * unit[1]).all()), UNITS[-1])
    if (far := size >= LATEST * scale).any():
        row = int(far.arg_max() or 0)
        raise DataError(f"{table.where(row)}: {name} is {shown(numbers[row])}, expected {EXPECTED}, before 2100")
    if scale == 1:
        return _whole(numbers.to_numpy())
    for other, smaller in UNITS:
        if smaller < scale and (mixed := (size >= EARLIEST * smaller) & (size < LATEST * smaller)).any():
            row = int(mixed.arg_max() or 0)
            raise DataError(
                f"{table.where(row)}: {name} is {numbers[row]}, {other} since 1970, where others are {unit}; expected "
                f"one unit in all rows"
            )
    table.notes.append(f"{table.path.name}: {name} is taken for {unit} since 1970")
    whole = numbers.dtype == pl.Int64 and (numbers % scale == 0).all()
    return _whole((numbers // scale if whole else numbers / scale).to_numpy())


def _iso(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Unix seconds of ISO 8601 texts, null for others, and whether each carries a zone."""
    parts = values.str.extract_groups(ISO).struct.unnest()
    date, hour, minute, second, fraction, zone, sign, zone_hour, zone_minute = parts.get_columns()
    days = pl.Series(values.name, [None] * len(values), dtype=pl.Date)
    for style in DATES:
        if days.null_count():
            days = days.zip_with(days.is_not_null(), date.str.to_date(style, strict=False))
    hours, minutes, seconds, ahead, ahead_minutes = (
        part.fill_null("0").cast(pl.Int64) for part in (hour, minute, second, zone_hour, zone_minute)
    )
    exact = seconds + 60 * minutes + 3600 * hours
    valid = (
        (hours <= 24) & (minutes <= 59) & (seconds <= 60) & (exact <= 86_400) & (ahead <= 23) & (ahead_minutes <= 59)
    )
    behind = sign.eq_missing(pl.Series(["-"])).cast(pl.Int64) * 2 - 1
    moments = days.cast(pl.Int64) * 86_400 + exact + behind * (3600 * ahead + 60 * ahead_minutes)
    small = ("0." + fraction.fill_null("0")).cast(pl.Float64)
    return (moments.cast(pl.Float64) + small).set(~valid, None), zone.is_not_null()


def _whole(seconds: NDArray[Any]) -> NDArray[Any]:
    if seconds.dtype.kind == "i":
        return np.asarray(seconds)
    whole = (np.abs(seconds) < 2**53).all() and (seconds == np.floor(seconds)).all()
    return seconds.astype(np.int64) if whole else seconds
