"""The loops behind :func:`bm3_pyg.ops.topk.dot_topk`. Import only where :func:`~bm3_pyg.ops.backend.backend_for` says
``numba``.

Items stand in panels of WIDTH, the longest first, each panel [D, WIDTH]; users are taken ROWS at a time. The scores of
ROWS users and a panel are summed in registers and never written unless one of them reaches its user's threshold.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic

from bm3_pyg.ops.jit import compiled

# ROWS x WIDTH sums fill half of AVX-512's registers, or three quarters of those of narrower ones.
ROWS, WIDTH = (8, 32) if llvmlite.binding.get_host_cpu_features().get("avx512f") else (6, 16)
BISECTIONS = 20
ONE = np.uint32(1)


@intrinsic
def _tile(
    typing_context: Any, users: Any, row: Any, panels: Any, panel: Any, least: Any, scores: Any, reaching: Any
) -> Any:
    """Scores [ROWS, WIDTH] of ``users[row : row + ROWS]`` and a panel; bit j of ``reaching[r]`` says whether score
    (r, j) is at least ``least[row + r]``. Returns whether any is. Arrays are contiguous, of float32 and (``reaching``)
    uint32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = [
            context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args, strict=True)
        ]
        users, row, panels, panel, least, scores, reaching = arrays
        i32, i64, f32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
        line, bits = ir.VectorType(f32, WIDTH), ir.IntType(WIDTH)
        dim = cgutils.unpack_tuple(builder, users.shape)[1]

        def at(array: Any, offset: Any) -> Any:
            return builder.gep(array, [offset])

        def as_line(pointer: Any) -> Any:
            return builder.bitcast(pointer, line.as_pointer())

        def filled(number: Any) -> Any:
            one = builder.insert_element(ir.Constant(line, ir.Undefined), number, i32(0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(i32, WIDTH), [0] * WIDTH))

        first = at(panels.data, builder.mul(panel, builder.mul(dim, i64(WIDTH))))
        rows = [at(users.data, builder.mul(builder.add(row, i64(r)), dim)) for r in range(ROWS)]
        sums = [cgutils.alloca_once(builder, line) for _ in rows]
        for total in sums:
            builder.store(ir.Constant(line, [0.0] * WIDTH), total)
        kind = ir.FunctionType(line, [line] * 3)
        add = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{WIDTH}f32")
        with cgutils.for_range(builder, dim) as loop:
            items = builder.load(as_line(at(first, builder.mul(loop.index, i64(WIDTH)))), align=4)
            for numbers, total in zip(rows, sums, strict=True):
                number = filled(builder.load(at(numbers, loop.index)))
                builder.store(builder.call(add, [number, items, builder.load(total)]), total)
        reached: Any = bits(0)
        for r, total in enumerate(sums):
            found = builder.load(total)
            builder.store(found, as_line(at(scores.data, i64(r * WIDTH))), align=4)
            threshold = filled(builder.load(at(least.data, builder.add(row, i64(r)))))
            mask = builder.bitcast(builder.fcmp_ordered(">=", found, threshold), bits)
            builder.store(builder.zext(mask, i32) if WIDTH < 32 else mask, at(reaching.data, i64(r)))
            reached = builder.or_(reached, mask)
        return builder.icmp_unsigned("!=", reached, bits(0))

    return types.boolean(users, row, panels, panel, least, scores, reaching), generate


@compiled()
def dot_topk(users, lengths, panels, items, places, peaks, start, stop, hidden, values, ids, low, high):
    """Rows ``low`` to ``high`` of ``values`` and ``ids`` [B, k]: the items of the highest dot products with ``users``.

    ``lengths`` [B] are at least the users' norms; ``items`` [P * WIDTH] the ids in the panels, -1 where there is none;
    ``places`` [I] where each item stands, -1 for nowhere; ``peaks`` [P] at least the norms in a panel, descending.
    ``hidden[start[row]:stop[row]]`` are ids hidden from a row.

    A user's threshold is no higher than the k-th best score so far. What reaches it is gathered in no order; when the
    room is full, the threshold rises until few are left. A group of users is done at the first panel whose norms allow
    no score as high as any of their thresholds.
    """
    k = values.shape[1]
    size, dim = high - low, users.shape[1]
    room = 4 * k + 2 * WIDTH
    groups = -(-size // ROWS)
    block = np.zeros((groups * ROWS, dim), np.float32)
    least = np.full(groups * ROWS, np.inf, np.float32)
    limits = np.full(groups, -np.inf)  # norms of items below which a group is done
    scores = np.empty((ROWS, WIDTH), np.float32)
    reaching = np.empty(ROWS, np.uint32)
    found = np.empty((size, room), np.float32)
    who = np.empty((size, room), np.int32)
    filled = np.zeros(size, np.int64)
    entries = 0
    for row in range(size):
        least[row] = -np.inf
        for j in range(dim):
            block[row, j] = users[low + row, j]
        entries += stop[low + row] - start[low + row]
    skipped = np.empty(entries, np.int32)
    ahead = np.zeros(size + 1, np.int64)  # a user's first entry of ``skipped`` that is in no panel seen so far
    for row in range(size):
        ahead[row + 1] = _ascending(places, hidden, start[low + row], stop[low + row], skipped, ahead[row])
    ends = ahead[1:].copy()
    for panel in range(len(peaks)):
        alive = False
        for group in range(groups):
            if peaks[panel] < limits[group]:
                continue
            alive = True
            if not _tile(block, group * ROWS, panels, panel, least, scores, reaching):  # type: ignore[call-arg]
                continue
            risen = False
            for r in range(ROWS):
                mask = reaching[r]
                if mask == 0:
                    continue
                row = group * ROWS + r
                first = panel * WIDTH
                while ahead[row] < ends[row] and skipped[ahead[row]] < first + WIDTH:
                    if skipped[ahead[row]] >= first:
                        mask &= ~np.uint32(ONE << np.uint32(skipped[ahead[row]] - first))
                    ahead[row] += 1
                count = filled[row]
                while mask != 0:
                    j = trailing_zeros(mask)
                    mask = np.uint32(mask & (mask - ONE))
                    if items[first + j] < 0:
                        continue
                    found[row, count] = scores[r, j]
                    who[row, count] = items[first + j]
                    count += 1
                if count > room - WIDTH:
                    count = _thin(found[row], who[row], count, k)
                    least[row] = _least(found[row], count)
                    risen = True
                filled[row] = count
            if risen:
                limit = np.inf
                for row in range(group * ROWS, min(size, group * ROWS + ROWS)):
                    limit = min(limit, least[row] / lengths[low + row])
                limits[group] = limit
        if not alive:
            break
    for row in range(size):
        count = _thin(found[row], who[row], filled[row], k)
        count = _order(found[row], who[row], count, k)
        for at in range(k):
            values[low + row, at] = found[row, at] if at < count else -np.inf
            ids[low + row, at] = who[row, at] if at < count else 0


@compiled()
def _ascending(places, hidden, low, high, out, first):
    """Write the places of ``hidden[low:high]`` to ``out`` from ``first`` on, but for -1, ascending; return the end."""
    end = first
    for at in range(low, high):
        if places[hidden[at]] >= 0:
            out[end] = places[hidden[at]]
            end += 1
    gap = (end - first) // 2
    while gap > 0:  # Shell's sort
        for at in range(first + gap, end):
            place = out[at]
            while at - gap >= first and out[at - gap] > place:
                out[at] = out[at - gap]
                at -= gap
            out[at] = place
        gap //= 2
    return end


@compiled()
def _least(found, count):
    least = found[0]
    for j in range(1, count):
        least = min(least, found[j])
    return least


@compiled()
def _thin(found, who, count, k):
    """Move the best k and few more of ``found[:count]`` to the front, in the order they are in; return their number."""
    if count <= k:
        return count
    low, high = found[0], found[0]
    for j in range(1, count):
        low, high = min(low, found[j]), max(high, found[j])
    for _ in range(BISECTIONS):
        middle = np.float32(0.5) * (low + high)
        reaching = np.int32(0)
        for j in range(count):
            reaching += np.int32(found[j] >= middle)
        if reaching >= k:
            low = middle
            if reaching <= k + k // 8:
                break
        else:
            high = middle
    kept = 0
    for j in range(count):
        score = found[j]
        found[kept] = score
        who[kept] = who[j]
        kept += int(score >= low)
    return kept if kept <= 2 * k else _order(found, who, kept, k)  # too many tie


@compiled()
def _order(found, who, count, k):
    """Move the best k of ``found[:count]`` to the front, best first and ties by lower id; return their number."""
    filled = 0
    for j in range(count):
        score, item = found[j], who[j]
        at = filled
        while at > 0 and (found[at - 1] < score or (found[at - 1] == score and who[at - 1] > item)):
            at -= 1
        if at == k:
            continue
        filled = min(filled + 1, k)
        for place in range(filled - 1, at, -1):
            found[place] = found[place - 1]
            who[place] = who[place - 1]
        found[at] = score
        who[at] = item
    return filled
