"""The loops that numba compiles. Import only where :func:`bm3_pyg.ops.backend.backend_for` says ``numba``.

All of them release the GIL and write only their own rows, in an order of operations that does not depend on threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
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
def layer(indptr, indices, row_scale, column_scale, x, w, alpha, beta, out, squares, measure, part, low, high):  # type: ignore[no-untyped-def]
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
def _layer(  # type: ignore[no-untyped-def]
    indptr, indices, row_scale, column_scale, x, w, alpha, beta, out, squares, measure, part, low, high, width
):
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
def topk(scores, start, stop, hidden, values, ids, low, high):  # type: ignore[no-untyped-def]
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
        found = 0
        whole = num_items - num_items % BLOCK
        for first in range(0, whole, BLOCK):
            reaching = np.int32(0)
            for j in range(BLOCK):
                reaching += np.int32(line[first + j] >= threshold)
            if reaching:
                found = _keep_best(line, first, first + BLOCK, threshold, best, ids[row], found)
        found = _keep_best(line, whole, num_items, threshold, best, ids[row], found)
        for at in range(found, k):  # scores that are not numbers
            best[at] = -np.inf
            ids[row, at] = 0


@compiled()
def _keep_best(line, low, high, threshold, best, ids, found):  # type: ignore[no-untyped-def]
    """Insert what reaches ``threshold`` in ``line[low:high]`` into the descending ``best[:found]``, its positions into
    ``ids``; return the new count."""
    k = len(best)
    for j in range(low, high):
        value = line[j]
        if value >= threshold and (found < k or value > best[k - 1]):
            at = min(found, k - 1)
            while at > 0 and best[at - 1] < value:
                best[at] = best[at - 1]
                ids[at] = ids[at - 1]
                at -= 1
            best[at] = value
            ids[at] = j
            found = min(found + 1, k)
    return found
