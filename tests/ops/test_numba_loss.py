"""The loops themselves, against slow twins; :mod:`tests.ops.test_loss` tests what calls them."""

from __future__ import annotations

import math

import numpy as np
import pytest

numba_kernels = pytest.importorskip("bm3_pyg.ops.numba_kernels")

MASK = 2**64 - 1


def splitmix64(seed: int, count: int) -> list[int]:
    """Steele, Lea and Flood, "Fast splittable pseudorandom number generators", in unbounded integers."""
    outputs = []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        outputs.append(z ^ (z >> 31))
    return outputs


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8])
def test_drop_follows_splitmix64(size: int) -> None:
    x, out = np.arange(1, size + 1, dtype=np.float32), np.empty(size, np.float32)
    threshold = 2**31
    numba_kernels.drop(x, *numba_kernels.words(1234567, threshold), np.float32(2), out)
    half = (size + 1) // 2
    halves = splitmix64(1234567, half)
    numbers = [z & 0xFFFFFFFF for z in halves] + [z >> 32 for z in halves[: size - half]]
    assert out.tolist() == [2 * value if number >= threshold else 0 for value, number in zip(x, numbers, strict=True)]


def test_splitmix64_is_the_known_one() -> None:
    assert splitmix64(1234567, 2) == [6457827717110365317, 3203168211198807973]


def test_cosines_and_their_gradient() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    a[2] = 0
    first, second, weight = np.array([0, 1, 1, 2]), np.array([3, 0, 3, 1]), rng.random(4)
    unit = np.full((4, 3), np.nan)
    total = numba_kernels.cosines(a, b, first, second, weight, 1e-8, unit)

    def value(a: np.ndarray) -> float:
        return math.fsum(
            float(w) * float(a[i] @ b[j]) / (max(float(np.linalg.norm(a[i])), 1e-8) * float(np.linalg.norm(b[j])))
            for i, j, w in zip(first, second, weight, strict=True)
        )

    assert total == pytest.approx(value(a))
    gradient = np.zeros_like(a)
    np.add.at(gradient, first, unit)
    step = 1e-6
    for i, k in np.ndindex(2, 3):
        moved = a.copy()
        moved[i, k] += step
        assert gradient[i, k] == pytest.approx((value(moved) - value(a)) / step, rel=1e-3, abs=1e-5)
    np.testing.assert_allclose(unit[3], weight[3] * b[1] / (1e-8 * np.linalg.norm(b[1])))


def test_scaled_rows_are_added_in_order() -> None:
    out, values = np.ones((3, 2), np.float32), np.arange(8, dtype=np.float32).reshape(4, 2)
    numba_kernels.add_scaled(out, np.array([2, 0, 2, 2]), values, np.float32(0.5))
    assert out.tolist() == [[2, 2.5], [1, 1], [6, 7.5]]
