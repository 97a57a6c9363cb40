"""Can two recommenders be told apart? All tests are SciPy's."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from bm3_pyg.errors import ConfigError


@dataclass(frozen=True)
class PairedTest:
    """A paired t-test over ``users``: the mean ``difference`` of first - second with its interval, p and Cohen's d.

    ``effect`` is the mean of the differences over their standard deviation, None where all users differ alike.
    """

    users: int
    difference: float
    low: float
    high: float
    p: float
    effect: float | None


def paired_test(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> PairedTest | None:
    """Compare a metric of the same users [n] under two models.

    Returns:
        The test; p is 1 where no user differs. None for fewer than two users, who show no spread.

    Raises:
        ConfigError: SciPy is not installed.
    """
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    users = len(differences)
    if users < 2:
        return None
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if np.ptp(differences) == 0:
        return PairedTest(users, mean, mean, mean, float(mean == 0), 0.0 if mean == 0 else None)
    found = _stats().ttest_1samp(differences, 0.0)  # the paired test is that of the differences
    interval = found.confidence_interval(confidence)
    return PairedTest(
        users, mean, float(interval.low), float(interval.high), float(found.pvalue), float(mean / deviation)
    )


def welch_test(first: Sequence[float], second: Sequence[float]) -> float | None:
    """p of Welch's t-test of two models' means over users, one a seed.

    None where a model has fewer than two seeds, or where neither model's figures vary with the seed.
    """
    if min(len(first), len(second)) < 2 or (np.ptp(first) == 0 and np.ptp(second) == 0):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one model may not vary at all, which is no loss of precision
        return float(_stats().ttest_ind(first, second, equal_var=False).pvalue)


def corrected(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's correction of many p: below a level stand that share of false discoveries at most."""
    return [float(value) for value in _stats().false_discovery_control(p)] if p else []


def _stats() -> ModuleType:
    try:
        import scipy.stats
    except ImportError as error:
        raise ConfigError('significance tests need SciPy: pip install "bm3-pyg[report]"') from error
    stats: ModuleType = scipy.stats
    return stats
