"""The loops behind :mod:`bm3_pyg.ops.rows`, compiled by numba; the equations stand there.

All release the GIL and write only items ``low`` to ``high`` of their outputs. NaN and infinity must travel as in dense
Adam, so loops over rows allow only fused multiply-adds; the rules are made of finite numbers, and their sums are
reassociated to be vectorised (in an order that the code compiled for a type of processor fixes, so results are
reproducible there).
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from bm3_pyg.ops.jit import compiled

CHUNK = 256  # elements whose intermediate values stay in L1


@compiled(error_model="numpy", fastmath={"contract"})
def read_rows(x, m, v, rows, which, depth, total, centre, ratio, eps, out, low, high):  # type: ignore[no-untyped-def]
    # Deeper rules are evaluated as one fraction upper / lower per element, with s and eps scaled to a sum of 1.
    part, rest, upper, lower = np.empty((4, CHUNK), x.dtype)
    one = x.dtype.type(1)
    for i in range(low, high):
        row = rows[i]
        p = which[i]
        levels = depth[p]
        if levels == 0:
            for j in range(x.shape[1]):
                out[i, j] = x[row, j]
        elif levels == 1:
            for j in range(x.shape[1]):
                out[i, j] = x[row, j] - m[row, j] * total[p] / (centre[p, 0] * sqrt(v[row, j]) + eps)
        elif levels == 2:  # the usual depth, over one common denominator: a single division
            for j in range(x.shape[1]):
                s = sqrt(v[row, j])
                inner = centre[p, 1] * s + eps
                moved = total[p] * inner / ((centre[p, 0] * s + eps) * inner - ratio[p, 0] * s * s)
                out[i, j] = x[row, j] - m[row, j] * moved
        else:
            for begin in range(0, x.shape[1], CHUNK):
                count = min(CHUNK, x.shape[1] - begin)
                for j in range(count):
                    s = sqrt(v[row, begin + j])
                    inverse = one / (s + eps)
                    part[j] = s * inverse
                    rest[j] = eps * inverse
                    upper[j] = centre[p, levels - 1] * part[j] + rest[j]
                    lower[j] = one
                for level in range(levels - 2, -1, -1):
                    middle = centre[p, level]
                    link = ratio[p, level]
                    for j in range(count):
                        above = (middle * part[j] + rest[j]) * upper[j] - link * part[j] * part[j] * lower[j]
                        lower[j] = upper[j]
                        upper[j] = above
                for j in range(count):
                    moved = total[p] * lower[j] / (upper[j] * (sqrt(v[row, begin + j]) + eps))
                    out[i, begin + j] = x[row, begin + j] - m[row, begin + j] * moved


@compiled(error_model="numpy", fastmath={"contract"})
def update_rows(  # type: ignore[no-untyped-def]
    x, m, v, last, rows, current, gradient, decay1, decay2, step, scalars, low, high
):
    size, width, gain1, gain2, eps = scalars[0], scalars[1], scalars[2], scalars[3], scalars[4]
    for i in range(low, high):
        row = rows[i]
        keep1 = decay1[i]
        keep2 = decay2[i]
        for j in range(x.shape[1]):
            g = gradient[i, j]
            first = keep1 * m[row, j] + gain1 * g
            second = keep2 * v[row, j] + gain2 * g * g
            m[row, j] = first
            v[row, j] = second
            x[row, j] = current[i, j] - size * first / (width * sqrt(second) + eps)
        last[row] = step


@compiled(error_model="numpy", fastmath=True)
def sleep_rules(  # type: ignore[no-untyped-def]
    starts, step, sizes, widths, decay, shrink, tolerance, depth, total, centre, ratio, low, high
):
    for i in range(low, high):
        start = starts[i]
        terms = min(step - start, decay.shape[0])
        depth[i] = 0
        if start == 0 or terms <= 0:
            continue
        weight = np.empty(terms)
        place = np.empty(terms)
        mass = 0.0
        exact = 0.0
        for j in range(terms):
            weight[j] = decay[j] * sizes[start + 1 + j]
            place[j] = shrink[j] * widths[start + 1 + j]
            mass += weight[j]
            exact += weight[j] / place[j]
        if mass <= 0.0:
            continue
        total[i] = mass
        older = np.zeros(terms)
        newer = np.ones(terms)
        link = 0.0
        value = 0.0
        share = mass
        pivot = 1.0
        norm = mass
        for level in range(centre.shape[1]):
            middle = 0.0
            for j in range(terms):
                middle += weight[j] * place[j] * newer[j] * newer[j]
            middle /= norm
            centre[i, level] = middle
            depth[i] = level + 1
            pivot = middle - link / pivot
            value += share / pivot
            if abs(exact - value) <= tolerance * exact:
                break
            after = 0.0
            for j in range(terms):
                older[j], newer[j] = newer[j], (place[j] - middle) * newer[j] - link * older[j]
                after += weight[j] * newer[j] * newer[j]
            link = after / norm
            if link <= 1e-28 * middle * middle:
                break
            ratio[i, level] = link
            share *= link / (pivot * pivot)
            norm = after
