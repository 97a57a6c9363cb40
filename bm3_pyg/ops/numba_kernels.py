"""The loops that numba compiles. Import only where :func:`bm3_pyg.ops.backend.backend_for` says ``numba``.

The equations stand where the loops are called: :mod:`~bm3_pyg.ops.propagation`, :mod:`~bm3_pyg.ops.topk`,
:mod:`~bm3_pyg.ops.loss` and :mod:`bm3_pyg.optim.rows`. All of them release the GIL and write only their own rows, in an
order of operations that does not depend on threads. Sums over a row are reassociated to be vectorised, in an order that
the code compiled for a type of processor fixes, so results are reproducible there. NaN and infinity must travel as in
dense Adam, so its loops over rows allow only fused multiply-adds.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from bm3_pyg.ops.jit import compiled

# A multiplication followed by an addition may be one instruction. Nothing is reordered: results are reproducible on
# processors of one type.
FUSED = {"contract"}
BLOCK = 16  # items looked at together
AHEAD = 16  # entries; the row of an entry is fetched this far ahead of its use
LINE = 16  # float32 in a cache line


@intrinsic
def _prefetch(typing_context: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of ``array.flat[offset]``; the array must be contiguous."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> None:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), ir.PointerType(ir.IntType(8)))
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, i32, i32, i32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
        builder.call(function, [address, i32(0), i32(3), i32(1)])  # for reading, into every level, data

    return types.void(array, types.intp), generate


@compiled(fastmath=FUSED)
def layer(indptr, indices, row_scale, column_scale, x, w, alpha, beta, out, squares, measure, part, low, high):
    """Rows ``low`` to ``high`` of ``out = alpha x + beta D_r^-1/2 S D_c^-1/2 w``, in one pass.

    S is the binary CSR matrix ``(indptr, indices)``; ``row_scale`` and ``column_scale`` are the diagonals of
    D_r^-1/2 and D_c^-1/2. Matrices are contiguous and of one dtype. With ``measure``, the sum of squares of the rows
    goes to ``squares[part]``.
    """
    if x.shape[1] == 64:  # a width known to the compiler is 15% faster
        _layer(indptr, indices, row_scale, column_scale, x, w, alpha, beta, out, squares, measure, part, low, high, 64)
    else:
        width = x.shape[1]
        _layer(
            indptr, indices, row_scale, column_scale, x, w, alpha, beta, out, squares, measure, part, low, high, width
        )


@compiled(fastmath=FUSED, inline="always")
def _layer(indptr, indices, row_scale, column_scale, x, w, alpha, beta, out, squares, measure, part, low, high, width):
    last = len(indices) - 1
    total = np.empty(width, x.dtype)
    lanes = np.zeros(width, x.dtype)
    square = 0.0
    for row in range(low, high):
        for j in range(width):
            total[j] = 0
        for entry in range(indptr[row], indptr[row + 1]):
            ahead = np.int64(indices[min(entry + AHEAD, last)]) * width
            for j in range(0, width, LINE):
                _prefetch(w, ahead + j)  # type: ignore[call-arg]
            column = indices[entry]
            scale = column_scale[column]
            for j in range(width):
                total[j] += scale * w[column, j]
        scale = beta * row_scale[row]
        for j in range(width):
            out[row, j] = alpha * x[row, j] + scale * total[j]
        if measure:
            for j in range(width):
                lanes[j] += out[row, j] * out[row, j]
            # Few rows are summed in the matrices' precision, the sums of them in double.
            if row % 32 == 31 or row == high - 1:
                for j in range(width):
                    square += np.float64(lanes[j])
                    lanes[j] = 0
    squares[part] = square


@compiled()
def topk(scores, start, stop, hidden, values, ids, low, high):
    """Rows ``low`` to ``high`` of ``values`` and ``ids`` [B, k]: the best of ``scores`` [B, I], ties by lower id.

    Entries ``hidden[start[row]:stop[row]]`` of a row are overwritten with -inf first. Then the items are dealt into 8k
    groups. The k-th best of the groups' maxima is no better than the k-th best item, and nearly as good, so only few
    items reach it; they are inserted into the list of the best in the order of their ids.
    """
    num_items = scores.shape[1]
    k = values.shape[1]
    groups = min(8 * k, num_items)
    maxima = np.empty(groups, scores.dtype)
    ignored = np.empty(k, np.int64)
    least = scores.dtype.type(-np.inf)
    for row in range(low, high):
        for entry in range(start[row], stop[row]):
            scores[row, hidden[entry]] = -np.inf
        line = scores[row]
        best = values[row]
        for j in range(groups):
            maxima[j] = line[j]
        for first in range(groups, num_items, groups):
            deal = line[first : first + groups]
            for j in range(len(deal)):
                maxima[j] = max(deal[j], maxima[j])
        threshold = best[k - 1] if _keep_best(maxima, 0, groups, least, best, ignored, 0) == k else least
        filled = 0
        whole = num_items - num_items % BLOCK
        for first in range(0, whole, BLOCK):
            reaching = np.int32(0)
            for j in range(BLOCK):
                reaching += np.int32(line[first + j] >= threshold)
            if reaching:
                filled = _keep_best(line, first, first + BLOCK, threshold, best, ids[row], filled)
        filled = _keep_best(line, whole, num_items, threshold, best, ids[row], filled)
        for at in range(filled, k):  # scores that are not numbers
            best[at] = -np.inf
            ids[row, at] = 0


@compiled()
def _keep_best(line, low, high, threshold, best, ids, filled):
    """Insert what reaches ``threshold`` in ``line[low:high]`` into the descending ``best[:filled]``, its positions into
    ``ids``; return the new count."""
    k = len(best)
    for j in range(low, high):
        value = line[j]
        if value >= threshold and (filled < k or value > best[k - 1]):
            at = min(filled, k - 1)
            while at > 0 and best[at - 1] < value:
                best[at] = best[at - 1]
                ids[at] = ids[at - 1]
                at -= 1
            best[at] = value
            ids[at] = j
            filled = min(filled + 1, k)
    return filled


GOLDEN, MIX1, MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
HALF, S27, S30, S31 = np.uint64(32), np.uint64(27), np.uint64(30), np.uint64(31)
LOW = np.uint64(0xFFFFFFFF)


def words(*numbers: int) -> tuple[np.uint64, ...]:
    """Integers as the 64-bit words that :func:`drop` takes."""
    return tuple(np.uint64(number) for number in numbers)


@compiled()
def drop(x, seed, threshold, scale, out):
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
def cosines(a, b, a_rows, b_rows, weight, eps, unit):
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


@compiled()
def add_scaled(out, rows, values, scale):
    """``out[rows[p]] += scale * values[p]`` for every p, in this order."""
    for p in range(len(rows)):
        row = rows[p]
        for k in range(out.shape[1]):
            out[row, k] += scale * values[p, k]


CHUNK = 256  # elements whose intermediate values stay in L1


@compiled(error_model="numpy", fastmath={"contract"})
def read_rows(x, m, v, rows, which, depth, total, centre, ratio, eps, out, low, high):
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
def update_rows(x, m, v, last, rows, current, gradient, decay1, decay2, step, scalars, low, high):
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
def sleep_rules(starts, step, sizes, widths, decay, shrink, tolerance, depth, total, centre, ratio, low, high):
    for i in range(low, high):
        start = starts[i]
        terms = min(step - start, decay.shape[0])
        depth[i] = 0
        if start == 0 or terms <= 0:
            continue
        weight = np.empty(terms)
        place = np.empty(terms)
        for j in range(terms):
            weight[j] = decay[j] * sizes[start + 1 + j]
            place[j] = shrink[j] * widths[start + 1 + j]
        mass = 0.0
        exact = 0.0
        for j in range(terms):
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
            for j in range(terms):
                older[j], newer[j] = newer[j], (place[j] - middle) * newer[j] - link * older[j]
            after = 0.0
            for j in range(terms):
                after += weight[j] * newer[j] * newer[j]
            link = after / norm
            if link <= 1e-28 * middle * middle:
                break
            ratio[i, level] = link
            share *= link / (pivot * pivot)
            norm = after
