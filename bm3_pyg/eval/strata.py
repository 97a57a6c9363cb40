"""Users by their activity and positives by their item's popularity."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

ACTIVITY = (1, 2, 3, 5, 10, 20)
POPULARITY = (0, 1, 5, 20, 100)
"""Lower bounds of the bins of training interactions."""


def strata(table: pl.DataFrame, bounds: Sequence[int], columns: Sequence[str]) -> pl.DataFrame:
    """Means of ``columns`` over the rows of each bin of the column ``training_interactions``.

    Args:
        table: of :func:`bm3_pyg.eval.users.user_metrics` or :func:`~bm3_pyg.eval.users.positive_hits`.
        bounds: lower bounds of the bins, ascending.
        columns: what to average.

    Returns:
        A row for each bin that is not empty, in their order: stratum (its name, ``"5-9"``), count, and the means.
    """
    counts = pl.col("training_interactions")
    number = pl.sum_horizontal([counts >= bound for bound in bounds])
    means = table.group_by(number.alias("bin")).agg(pl.len().alias("count"), pl.col(columns).cast(pl.Float64).mean())
    names = pl.DataFrame(
        {"bin": range(1, len(bounds) + 1), "stratum": _names(bounds)}, schema={"bin": pl.Int64, "stratum": pl.String}
    )
    joined = names.join(means.with_columns(pl.col("bin").cast(pl.Int64)), on="bin").sort("bin")
    return joined.select("stratum", "count", *columns)


def _names(bounds: Sequence[int]) -> list[str]:
    ends = [bound - 1 for bound in bounds[1:]]
    ranges = [str(low) if low == high else f"{low}-{high}" for low, high in zip(bounds, ends, strict=False)]
    return [*ranges, f"{bounds[-1]}+"]
