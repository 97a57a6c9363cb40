"""The tests on planted cases: their level, their power, and what cannot be tested."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from bm3_pyg.study.stats import corrected, paired_test, welch_test

PAIRS, LEVEL = 200, 0.05


def recalls(rng: np.random.Generator, users: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two models' recalls of the same users: mostly zero, right-skewed, correlated, as real ones are."""
    ease = rng.beta(0.5, 4, users)
    first, second = (rng.binomial(3, np.clip(ease + extra, 0, 1)) / 3 for extra in (shift, 0.0))
    return first, second


def test_equal_models_differ_about_as_often_as_the_stated_level() -> None:
    rng = np.random.default_rng(0)
    found = [paired_test(*recalls(rng, 500)) for _ in range(PAIRS)]
    false = sum(one is not None and one.p < LEVEL for one in found)
    low, high = scipy.stats.binom.interval(0.999, PAIRS, LEVEL)
    assert low <= false <= high
    misses = sum(one is not None and not one.low <= 0 <= one.high for one in found)
    assert misses == false


def test_a_true_difference_is_found_and_lies_in_its_interval() -> None:
    rng = np.random.default_rng(1)
    found = [paired_test(*recalls(rng, 5000, 0.03)) for _ in range(20)]
    for one in found:
        assert one is not None
        assert one.p < 0.001
        assert one.effect is not None
        assert 0 < one.effect < 0.5
    assert sum(one is not None and one.low <= 0.03 <= one.high for one in found) >= 15


def test_the_figures_are_those_of_the_textbook() -> None:
    first, second = np.array([0.5, 0.1, 0.9, 0.4]), np.array([0.3, 0.2, 0.5, 0.1])
    found = paired_test(first, second)
    assert found is not None
    differences = [0.2, -0.1, 0.4, 0.3]
    mean = sum(differences) / 4
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / 3)
    half = 3.182446 * deviation / 2  # t of 3 degrees of freedom at 0.975
    assert found.users == 4
    assert found.difference == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), rel=1e-5)
    assert found.effect == pytest.approx(mean / deviation)
    assert found.p == pytest.approx(scipy.stats.ttest_rel(first, second).pvalue)


def test_what_cannot_be_tested() -> None:
    same = paired_test([0.2, 0.4], [0.2, 0.4])
    assert same is not None
    assert (same.p, same.difference, same.effect) == (1.0, 0.0, 0.0)
    alike = paired_test([0.75, 0.5], [0.5, 0.25])
    assert alike is not None
    assert (alike.p, alike.low, alike.high, alike.effect) == (0.0, 0.25, 0.25, None)
    assert paired_test([0.3], [0.1]) is None
    assert paired_test([], []) is None
    assert welch_test([0.1], [0.2, 0.3]) is None
    assert welch_test([0.1, 0.1], [0.2, 0.2]) is None


def test_seeds_that_overlap_are_not_told_apart_and_others_are() -> None:
    apart, mixed = welch_test([0.10, 0.11, 0.105], [0.20, 0.21, 0.20]), welch_test([0.10, 0.12, 0.14], [0.11, 0.13])
    assert apart is not None
    assert mixed is not None
    assert apart < 0.001
    assert mixed > 0.5
    constant = welch_test([0.1, 0.1], [0.2, 0.21])
    assert constant is not None
    assert constant < 0.05


def test_correction_holds_the_share_of_false_discoveries() -> None:
    assert corrected([]) == []
    assert corrected([0.04]) == [0.04]
    assert corrected([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert corrected([1.0, 1.0]) == [1.0, 1.0]
