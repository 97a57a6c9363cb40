"""The loops of the loss, compiled by numba; the equations stand in :mod:`bm3_pyg.ops.dropout` and ``cosine``.

They are too short to be worth a second thread. Sums over a row are reassociated to be vectorised, in an order that the
code compiled for a type of processor fixes, so results are reproducible there.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from bm3_pyg.ops.jit import compiled

GOLDEN, MIX1, MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
HALF, S27, S30, S31 = np.uint64(32), np.uint64(27), np.uint64(30), np.uint64(31)
LOW = np.uint64(0xFFFFFFFF)


def words(*numbers: int) -> tuple[np.uint64, ...]:
    """Integers as the 64-bit words that :func:`drop` takes."""
    return tuple(np.uint64(number) for number in numbers)


@compiled()
def drop(x, seed, threshold, scale, out):  # type: ignore[no-untyped-def]
    """``out`` is ``x`` scaled where its random number is at least ``threshold``, else 0; both [n].

    The random numbers are the halves of SplitMix64's outputs from ``seed``: places i and i + (n + 1) // 2 share one.
    """
    half = (len(x) + 1) // 2
    zero = x.dtype.type(0)
    for i in range(half):
        z = seed + np.uint64(i + 1) * GOLDEN
        z = (z ^ (z >> S30)) * MIX1
        z = (z ^ (z >> S27)) * MIX2
        z = z ^ (z >> S31)
        out[i] = x[i] * scale if (z & LOW) >= threshold else zero
        if i + half < len(x):
            out[i + half] = x[i + half] * scale if (z >> HALF) >= threshold else zero


@compiled(error_model="numpy", fastmath={"contract", "reassoc"})
def cosines(a, b, a_rows, b_rows, weight, eps, unit):  # type: ignore[no-untyped-def]
    """The sum over pairs p of ``weight[p] cos(a[a_rows[p]], b[b_rows[p]])``, its gradient in a's row in ``unit[p]``.

    In double precision inside: the gradient is what cancellation leaves.
    """
    total = 0.0
    for p in range(len(a_rows)):
        i, j = a_rows[p], b_rows[p]
        aa = bb = ab = 0.0
        for k in range(a.shape[1]):
            x, y = np.float64(a[i, k]), np.float64(b[j, k])
            aa += x * x
            bb += y * y
            ab += x * y
        norm = sqrt(aa)
        scale = weight[p] / (max(norm, eps) * max(sqrt(bb), eps))
        total += ab * scale
        along = ab * scale / aa if norm > eps else 0.0  # below eps the norm is a constant
        for k in range(a.shape[1]):
            unit[p, k] = scale * b[j, k] - along * a[i, k]
    return total
