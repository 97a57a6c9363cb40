"""What a report says, as plain values: made by :mod:`bm3_pyg.study.report`, shown as HTML, Markdown, JSON and LaTeX.

Metrics are named as everywhere, ``recall@20``; all figures are unrounded and means over users are between 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

from bm3_pyg import escape

HEADLINE = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
"""The metrics that everybody reports."""
_TITLES = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "hitrate": "HitRate"}


def metric_title(metric: str) -> str:
    """``"ndcg@20"`` as people write it: ``"NDCG@20"``."""
    name, at, cutoff = metric.partition("@")
    return _TITLES.get(name, name.capitalize()) + at + cutoff


@dataclass(frozen=True)
class Spread:
    """A metric over seeds: mean, sample standard deviation (None for one seed), and the values, one a seed."""

    mean: float
    deviation: float | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One model with one setting: its runs over seeds."""

    label: str
    model: str
    settings: str
    """What differs from the model's defaults, ``"num_layers=2 dropout=0.3"``."""
    seeds: tuple[int, ...]
    test: dict[str, Spread]
    val: dict[str, Spread]
    best: tuple[str, ...] = ()
    """Test metrics in which this row has the highest mean."""
    within_noise: tuple[str, ...] = ()
    """Test metrics in which it cannot be told from the best (corrected p at or above the level)."""
    epochs: tuple[int, ...] = ()
    """Selected epoch of each seed."""
    train_seconds: float | None = None
    """Training time of a run, mean over seeds."""
    epoch_seconds: float | None = None
    """Median of an epoch, mean over seeds; likewise of an evaluation below."""
    eval_seconds: float | None = None
    memory_mb: float | None = None
    """Peak memory of the process, largest over seeds."""


@dataclass(frozen=True)
class Published:
    """Figures reported elsewhere, under their right names."""

    source: str
    metrics: dict[str, float]
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Paired test of two rows over users (per-user values are averaged over seeds first)."""

    metric: str
    first: str
    second: str
    users: int
    difference: float
    """Mean of first - second."""
    low: float
    high: float
    """95% confidence interval of the difference."""
    p: float
    corrected_p: float
    effect: float | None
    """Cohen's d of the paired differences: their mean over their standard deviation; None if all users differ alike."""
    test: str = "paired t-test"
    seeds_p: float | None = None
    """Welch's t-test of the seeds' means, where both rows have at least two seeds: does it hold for a new training?"""


@dataclass(frozen=True)
class Stratum:
    """Users, or the items in users' positives, of one kind."""

    group: str
    """``"user activity"``, ``"item popularity"`` or ``"cold"``."""
    name: str
    """``"1-4 training interactions"``."""
    count: int
    metric: str
    values: dict[str, float]
    """Mean over the stratum's users (or positives) by row label."""


@dataclass(frozen=True)
class Curve:
    """Validation over epochs of one run, and its mean losses."""

    label: str
    seed: int
    epochs: tuple[int, ...]
    validation: tuple[float, ...]
    """Recall@20 at ``epochs``."""
    selected: int
    losses: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """By component, at epochs 1, 2, ...; unweighted."""


@dataclass(frozen=True)
class Ablation:
    """One change to a model, against the unchanged one: the same comparison, in the order of the preset."""

    label: str
    comparison: Comparison
    words: str
    """One sentence in plain words."""
    seeds: tuple[int, ...] = ()
    test: dict[str, Spread] = field(default_factory=dict)
    """The changed model's figures; the unchanged one's stand in its row."""


@dataclass(frozen=True)
class Section:
    """Everything about the runs on one dataset under one protocol."""

    dataset: dict[str, Any]
    """The card of :func:`bm3_pyg.data.describe`, or what the runs know if the dataset is not at hand."""
    protocol: tuple[str, ...]
    """Sentences."""
    rows: tuple[Row, ...]
    published: tuple[Published, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    level: float = 0.05
    beyond: dict[str, dict[str, float]] = field(default_factory=dict)
    """Beyond accuracy by row label and metric (coverage@20, average_popularity@20, ...), means over seeds."""
    strata: tuple[Stratum, ...] = ()
    ablations: tuple[Ablation, ...] = ()
    ablation_words: str = ""
    """What the ablations say about the modalities, with the reason."""
    curves: tuple[Curve, ...] = ()
    searches: tuple[str, ...] = ()
    """How settings were chosen: ``"bm3: 8 settings x 3 seeds, selected on validation Recall@20"``."""
    search_rows: tuple[dict[str, Any], ...] = ()
    """Every setting that was tried: ``{"setting", "seeds", "val": Spread, "selected": bool}``; no test figures."""
    environment: dict[str, Any] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A report: one section for each dataset and protocol."""

    title: str
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    """What a reader must know first: missing seeds, failed runs, more than one dataset or protocol."""

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it, which has no word for infinite and undefined numbers: null."""
        return {"schema": 1, **_mapped(_finite, asdict(self))}

    def printable(self) -> Report:
        """The same in :func:`~bm3_pyg.escape.printable` text, whatever is in names and labels."""
        report: Report = _mapped(lambda value: escape.printable(value) if isinstance(value, str) else value, self)
        return report


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """``value`` with every key and every plain value in it changed."""
    if isinstance(value, dict):
        return {change(key): _mapped(change, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(change, inner) for inner in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _mapped(change, getattr(value, field.name)) for field in fields(value)})
    return change(value)
