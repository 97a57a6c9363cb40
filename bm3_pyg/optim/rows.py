r"""Rows of a table that Adam moves late: the three kernels of :class:`bm3_pyg.optim.DeferredAdam`.

A row touched last at step :math:`t` holds :math:`(x, m, v)` of that step. Had dense Adam gone on with zero gradients
for :math:`k` steps, it would have moved the row by

.. math::
    x_{t+k} = x_t - m_t\, S(\sqrt{v_t}), \quad S(s) = \sum_{j=1}^{k} \frac{n_j}{a_j s + \epsilon}, \quad
    n_j = \frac{\eta_{t+j} \beta_1^j}{1 - \beta_1^{t+j}}, \quad a_j = \frac{\beta_2^{j/2}}{\sqrt{1 - \beta_2^{t+j}}},

and :math:`m_{t+k} = \beta_1^k m_t`, :math:`v_{t+k} = \beta_2^k v_t`. The scalars :math:`n_j, a_j` are the same for all
elements, so :func:`sleep_rules` replaces the sum, once per distinct :math:`t`, by the Gauss rule of the discrete
measure with mass :math:`n_j` at :math:`a_j`, and :func:`read_rows` evaluates that rule per element as the continued
fraction

.. math::
    S(s) \approx \cfrac{N}{c_1 s + \epsilon - \cfrac{r_1 s^2}{c_2 s + \epsilon - \cdots}}

with :math:`N` the whole mass, :math:`c_p, r_p` the recurrence coefficients of the measure's orthogonal polynomials, and
as many levels as accuracy asks for: one for each term where the sleep is short (then it is the sum itself), two for any
sleep once :math:`t` is in the hundreds, at most some twenty in the first steps.

Every function has a compiled form for CPU tensors (:mod:`bm3_pyg.ops.backend` chooses) and a plain torch one, which
also serves other devices. On a GPU, where grouping rows by t would wait for the device, :func:`catch_up_rows` makes the
rule of two levels for each row, and takes the sum itself where that is not accurate enough or no less work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bm3_pyg.ops.backend import backend_for
from bm3_pyg.ops.cpu import parallel

MAX_LEVELS = 64


class RowState(NamedTuple):
    """Adam's state of a table, each row as of the step it was touched last."""

    param: Tensor  # [N, d]
    exp_avg: Tensor  # [N, d]
    exp_avg_sq: Tensor  # [N, d]
    last: Tensor  # [N] int32, that step; 0 is never


class PastSteps(NamedTuple):
    """What moves a row at rest: the scalars of Adam's steps up to ``step``, all tensors float64, on the table's device.

    ``decay`` and ``shrink`` are ``beta1^j`` and ``beta2^(j/2)`` for j = 1..J; later terms of S are dropped.
    """

    step: int
    sizes: Tensor  # [more than step], lr_t / (1 - beta1^t) at index t
    widths: Tensor  # [more than step], 1 / sqrt(1 - beta2^t) at index t
    decay: Tensor  # [J]
    shrink: Tensor  # [J]
    eps: float
    tolerance: float  # largest relative error of S; it is largest where eps vanishes beside sqrt(v)


class AdamStep(NamedTuple):
    """Adam's scalars of one step: x -= size m / (width sqrt(v) + eps)."""

    step: int  # t
    size: float  # lr / (1 - beta1^t)
    width: float  # 1 / sqrt(1 - beta2^t)
    gain1: float  # 1 - beta1
    gain2: float  # 1 - beta2
    eps: float


class SleepRules(NamedTuple):
    """The sum S(s) for each of n rows: row i follows rule ``which[i]`` of K.

    A rule has ``depth`` levels ``centre[:depth]``, ``ratio[:depth - 1]`` and the mass ``total``; depth 0 is at rest.
    """

    which: Tensor  # [n] int64
    depth: Tensor  # [K] int64
    total: Tensor  # [K]
    centre: Tensor  # [K, levels]
    ratio: Tensor  # [K, levels]


def catch_up_rows(state: RowState, rows: Tensor, past: PastSteps, out: Tensor) -> Tensor:
    """Rows as dense Adam would have them at ``past.step``: :func:`sleep_rules` and :func:`read_rows` in one.

    Args:
        state: of the table; nothing is written back.
        rows: [n] int64 within range, distinct or not.
        past: up to the step to catch up to.
        out: [n, d], filled and returned.

    Raises:
        IndexError: a row outside the table (on a GPU, CUDA's assertion).
    """
    last = state.last.index_select(0, rows)
    if backend_for(state.param) == "triton":
        from bm3_pyg.ops import triton_kernels

        step, sizes, widths, decay, shrink, eps, tolerance = past
        terms = len(decay)
        # A tensor, because Triton passes Python's floats in single precision.
        small = torch.full((1,), eps, dtype=out.dtype, device=out.device)
        operands = (*state[:3], rows, last, step, sizes, widths, decay, shrink, terms, small, tolerance, out)
        room = 1 << (terms - 1).bit_length()
        triton_kernels.over_rows(triton_kernels.catch_up_rows, out.shape, *operands, TERMS=room)
        return out
    return read_rows(state, rows, sleep_rules(last, past, like=state.param), past.eps, out)


def sleep_rules(last: Tensor, past: PastSteps, like: Tensor) -> SleepRules:
    """Rules, in dtype and device as ``like``, that catch rows up from their steps ``last`` [n] to ``past.step``."""
    starts, which = torch.unique(last, return_inverse=True)
    depth, total = torch.zeros(len(starts), dtype=torch.int64), torch.zeros(len(starts), dtype=torch.float64)
    centre, ratio = torch.zeros(2, len(starts), min(MAX_LEVELS, len(past.decay)), dtype=torch.float64)
    rules = SleepRules(which, depth, total, centre.fill_(1), ratio)
    if backend_for(like) == "numba":
        from bm3_pyg.ops import numba_kernels

        step, sizes, widths, decay, shrink, _, tolerance = past
        operands = (starts, step, sizes, widths, decay, shrink, tolerance)
        _in_parts(numba_kernels.sleep_rules, len(starts), *operands, *rules[1:])
    else:
        _stieltjes(starts.cpu().long(), past, rules)
    deepest = max(1, int(depth.max())) if len(depth) else 1
    return SleepRules(
        which, depth.to(like.device), total.to(like), centre[:, :deepest].to(like), ratio[:, :deepest].to(like)
    )


def read_rows(state: RowState, rows: Tensor, rules: SleepRules, eps: float, out: Tensor) -> Tensor:
    """``out[i] = x[rows[i]] - m[rows[i]] * S_i(sqrt(v[rows[i]]))``: rows caught up, nothing written back.

    Args:
        state: of the table.
        rows: [n] int64 within range, distinct or not.
        rules: one for each of ``rows``.
        eps: Adam's.
        out: [n, d], filled and returned.
    """
    x, m, v, _ = state
    if backend_for(x) == "numba":
        from bm3_pyg.ops import numba_kernels

        _in_parts(numba_kernels.read_rows, len(rows), x, m, v, rows, *rules, _scalars(x, eps)[0], out)
        return out
    torch.index_select(x, 0, rows, out=out)
    awake = rules.depth[rules.which].nonzero().flatten()
    if len(awake) == 0:
        return out
    which, asleep = rules.which[awake], rows[awake]
    s = v[asleep].sqrt_()
    fraction = rules.centre[which, -1, None] * s + eps  # unused levels hold centre 1 and ratio 0: they add nothing
    for level in reversed(range(rules.centre.shape[1] - 1)):
        centre, ratio = rules.centre[which, level, None], rules.ratio[which, level, None]
        fraction = centre * s + eps - ratio * s * s / fraction
    out[awake] -= m[asleep] * rules.total[which, None] / fraction
    return out


def update_rows(
    state: RowState, rows: Tensor, current: Tensor, gradient: Tensor, decays: tuple[Tensor, Tensor], step: AdamStep
) -> None:
    """Adam's step on distinct rows, in place: moments decay over the sleep, take the gradient in, and move the row.

    Args:
        state: of the table; ``last`` becomes ``step.step`` at ``rows``.
        rows: [n] int64, distinct and within range; Triton's kernel passes over negative ones.
        current: [n, d], the rows caught up to the step before.
        gradient: [n, d].
        decays: beta1 and beta2 to the power ``step.step - last``, [n] each.
        step: the one to take.
    """
    x, m, v, last = state
    number, *scalars = step
    operands = (*state, rows, current, gradient, *decays, number)
    if backend_for(x) == "numba":
        from bm3_pyg.ops import numba_kernels

        _in_parts(numba_kernels.update_rows, len(rows), *operands, _scalars(x, *scalars))
        return
    if backend_for(x) == "triton":
        from bm3_pyg.ops import triton_kernels

        # From pinned memory, so that the host does not wait for the copy.
        numbers = torch.tensor(scalars, dtype=x.dtype, pin_memory=x.is_cuda).to(x.device, non_blocking=True)
        triton_kernels.over_rows(triton_kernels.update_rows, current.shape, *operands, numbers)
        return
    size, width, gain1, gain2, eps = scalars
    first = m[rows].mul_(decays[0][:, None]).add_(gradient, alpha=gain1)
    second = v[rows].mul_(decays[1][:, None]).addcmul_(gradient, gradient, value=gain2)
    x[rows] = current - size * first / (width * second.sqrt() + eps)
    m[rows], v[rows], last[rows] = first, second, number


def _in_parts(loop: Callable[..., object], count: int, *operands: Any) -> None:
    """``loop(*operands, low, high)`` over ``range(count)``, a few parts to a thread so that none waits for another."""
    arrays = [operand.detach().numpy() if isinstance(operand, Tensor) else operand for operand in operands]
    size = max(8, -(-count // (4 * torch.get_num_threads())))
    parallel(loop, [(*arrays, low, min(low + size, count)) for low in range(0, count, size)])


def _scalars(like: Tensor, *values: float) -> Any:
    """Values as an array of the table's dtype, so that compiled loops do not promote to float64."""
    return torch.tensor(values, dtype=like.dtype).numpy()


def _stieltjes(starts: Tensor, past: PastSteps, rules: SleepRules) -> None:
    """Fill ``rules`` for every start at once: orthogonal polynomials of the measure, by Stieltjes' procedure."""
    _, depth, total, centre, ratio = rules
    step, tolerance = past.step, past.tolerance
    sizes, widths, decay, shrink = (x.cpu() for x in (past.sizes, past.widths, past.decay, past.shrink))
    j = torch.arange(1, max(1, min(len(decay), int((step - starts).max()) if len(starts) else 1)) + 1)
    inside = (starts[:, None] + j <= step) & (starts[:, None] > 0)
    at = (starts[:, None] + j).clamp_(max=step)
    weight = torch.where(inside, decay[j - 1] * sizes[at], 0.0)
    place = shrink[j - 1] * widths[at]
    mass, exact = weight.sum(1), (weight / place).sum(1)
    total.copy_(mass)
    live = mass > 0
    older, newer = torch.zeros_like(weight), torch.ones_like(weight)
    link, value, share, pivot, norm = torch.zeros_like(mass), torch.zeros_like(mass), mass.clone(), mass + 1, mass
    for level in range(centre.shape[1]):
        if not live.any():
            break
        middle = (weight * place * newer.square()).sum(1) / norm
        centre[live, level] = middle[live]
        depth[live] += 1
        pivot = middle - link / pivot
        value = value + share / pivot
        older, newer = newer, (place - middle[:, None]) * newer - link[:, None] * older
        after = (weight * newer.square()).sum(1)
        link = after / norm
        live = live & ((exact - value).abs() > tolerance * exact) & (link > 1e-28 * middle.square())
        ratio[live, level] = link[live]
        share = share * link / pivot.square()
        norm = after
