"""Adam for one row table: the moments, the steps taken, and the moves still owed to rows."""

from __future__ import annotations

import math
import mmap
from typing import Any

import torch
from torch import Tensor

from bm3_pyg.errors import ConfigError
from bm3_pyg.ops.cpu import Recycler
from bm3_pyg.optim.row_gradient import RowGradient, RowPart
from bm3_pyg.optim.rows import AdamStep, PastSteps, RowState, catch_up_rows, update_rows

# Of the product dZ W made at once: on a CPU enough for fast products, still in cache for the update.
_BLOCK_BYTES = {"cpu": 8 << 20, "cuda": 64 << 20}
_TOLERANCE = {torch.float32: 1e-7, torch.float64: 1e-13}


class RowAdam:
    r"""The state of Adam for the table ``weight`` [N, d]; implements :class:`bm3_pyg.optim.row_table.Deferral`.

    Row i is stored as of step ``last[i]``, moments included. :meth:`read` adds what dense Adam would have done since,
    in one pass whose cost does not depend on how long the row slept (:mod:`bm3_pyg.optim.rows`); :meth:`advance` does
    so for the rows of a gradient, steps, and stores them. Reading writes nothing, so it never changes what training
    computes. Terms that add less than a hundredth of the tolerance to the move of a sleeping row are dropped.
    """

    def __init__(self, weight: Tensor, betas: tuple[float, float], eps: float) -> None:
        self.weight, self.betas, self.eps = weight, betas, eps
        self.exp_avg, self.exp_avg_sq = (_zeros_like(weight) for _ in range(2))
        self.last = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
        self._step = 0
        self._flushed_at = 0
        self._memory = Recycler()
        block_bytes = _BLOCK_BYTES.get(weight.device.type, _BLOCK_BYTES["cpu"])
        self._block = max(1, min(len(weight), block_bytes // max(1, weight.shape[1] * weight.element_size())))
        # Of past steps, indexed by step.
        self._sizes, self._widths = torch.zeros(2, 1024, dtype=torch.float64, device=weight.device)
        self._tolerance = _TOLERANCE[weight.dtype]
        fade = betas[0] / math.sqrt(betas[1])  # a sleeping row's move shrinks so from step to step
        terms = math.ceil(math.log(self._tolerance / 100) / math.log(fade)) if fade > 0 else 1
        j = torch.arange(1, terms + 1, dtype=torch.float64, device=weight.device)
        self._decay, self._shrink = betas[0] ** j, betas[1] ** (j / 2)

    @property
    def stamp(self) -> tuple[int, int]:
        """Steps taken, and torch's count of other changes made to the table in place."""
        return self._step, self.weight._version

    def check_weight(self) -> None:
        """Raise :class:`ConfigError` if the table was moved or cast since this was built."""
        found, expected = (f"{x.dtype} on {x.device}" for x in (self.weight, self.exp_avg))
        if found != expected:
            raise ConfigError(
                f"a table is now {found}, expected {expected}: build the optimizer after moving the model"
            )

    def read(self, rows: Tensor, out: Tensor) -> Tensor:
        """Fill ``out`` [n, d] with ``rows`` [n] as dense Adam would have them now, and return it.

        Raises:
            IndexError: a row outside the table.
            ConfigError: see :meth:`check_weight`.
        """
        self.check_weight()
        return catch_up_rows(self._state(), rows.long().contiguous(), self._past(), out)

    def advance(self, gradient: Tensor, lr: float) -> None:
        """One Adam step with ``gradient`` [N, d], a :class:`RowGradient` or dense.

        The clock moves first, and each row's own step with the row: should this be interrupted, the rows not reached
        are as if their gradient had been zero.
        """
        if isinstance(gradient, RowGradient):
            part = gradient.merged()
        else:
            part = RowPart(torch.arange(len(gradient), device=gradient.device), gradient.contiguous())
        rows, state, before = part.rows.long().contiguous(), self._state(), self._past()
        written = rows if part.first is None else torch.where(part.first, rows, -1)
        current_known = part.read_at == self.stamp
        slept = before.step + 1 - self.last.index_select(0, rows).double()
        decay1, decay2 = ((beta**slept).to(state.param) for beta in self.betas)
        step = self._push(lr)
        block = self._block
        product = self._memory.empty_rows(block, state.param)
        fresh = None if current_known else self._memory.empty_rows(block, state.param)
        for start in range(0, len(rows), block):
            stop = min(start + block, len(rows))
            here = slice(start, stop)
            if fresh is None:
                assert part.read is not None
                current = part.read[here]
            else:
                current = catch_up_rows(state, rows[here], before, fresh[: stop - start])
            gradient_rows = part.product(start, stop, product).contiguous()
            update_rows(state, written[here], current, gradient_rows, (decay1[here], decay2[here]), step)

    def flush(self) -> None:
        """Write every owed move into the table and bring every row's moments up to date."""
        self.check_weight()
        if self._flushed_at == self._step:
            return
        state, past = self._state(), self._past()
        weight = state.param
        for rows in self.last.nonzero().flatten().split(self._block):
            slept = self._step - self.last[rows].double()
            weight[rows] = catch_up_rows(state, rows, past, torch.empty_like(weight[: len(rows)]))
            self.exp_avg[rows] *= (self.betas[0] ** slept).to(weight)[:, None]
            self.exp_avg_sq[rows] *= (self.betas[1] ** slept).to(weight)[:, None]
            self.last[rows] = self._step
        self._flushed_at = self._step

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers that :meth:`load_state_dict` goes on from bit for bit, ``weight`` as stored."""
        past = slice(0, self._step + 1)
        return {
            "step": self._step,
            "betas": list(self.betas),
            "eps": self.eps,
            "weight": self.weight.detach(),
            "exp_avg": self.exp_avg,
            "exp_avg_sq": self.exp_avg_sq,
            "last": self.last,
            "sizes": self._sizes[past],
            "widths": self._widths[past],
        }

    def check_state_dict(self, state: dict[str, Any]) -> None:
        """Raise :class:`ConfigError` unless ``state`` fits this table and these settings."""
        own = self.state_dict()
        if missing := own.keys() - state.keys():
            raise ConfigError(f"optimizer state of a table lacks {', '.join(sorted(missing))}")
        for key in ("weight", "exp_avg", "exp_avg_sq", "last"):
            found, expected = (f"{list(s[key].shape)} of {s[key].dtype}" for s in (state, own))
            if found != expected:
                raise ConfigError(f"optimizer state of a table: {key} is {found}, expected {expected}")
        step = state["step"]
        if len(state["sizes"]) != step + 1 or len(state["widths"]) != step + 1 or bool((state["last"] > step).any()):
            raise ConfigError(f"optimizer state of a table: its history is not that of {step} steps")
        for key in ("betas", "eps"):
            if state[key] != own[key]:
                raise ConfigError(f"optimizer state of a table: {key} is {state[key]}, this optimizer has {own[key]}")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``; the table's rows are restored with it."""
        self._step = int(state["step"])
        self._flushed_at = -1
        touched = (self.last + state["last"].to(self.last)).nonzero().flatten()
        for rows in touched.split(self._block):  # moments of the others are zero here and there
            for key in ("exp_avg", "exp_avg_sq"):
                moments = state[key]
                getattr(self, key)[rows] = moments[rows.to(moments.device)].to(self.weight)
        self.weight.detach().copy_(state["weight"])
        self.last.copy_(state["last"])
        self._sizes, self._widths = (state[key].to(self.last.device, copy=True) for key in ("sizes", "widths"))

    def _state(self) -> RowState:
        return RowState(self.weight.detach(), self.exp_avg, self.exp_avg_sq, self.last)

    def _past(self) -> PastSteps:
        scalars = self._sizes, self._widths, self._decay, self._shrink
        return PastSteps(self._step, *scalars, self.eps, self._tolerance)

    def _push(self, lr: float) -> AdamStep:
        """Start the next step with this learning rate."""
        step, (beta1, beta2) = self._step + 1, self.betas
        if step >= len(self._sizes):
            more = self._sizes.new_zeros(max(1024, step))
            self._sizes, self._widths = torch.cat([self._sizes, more]), torch.cat([self._widths, more])
        size, width = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
        self._sizes[step].fill_(size)
        self._widths[step].fill_(width)
        self._step = step
        return AdamStep(step, size, width, 1 - beta1, 1 - beta2, self.eps)


def _zeros_like(table: Tensor) -> Tensor:
    """As torch's, but on a CPU in pages that take no memory before they are written to."""
    if not table.is_cpu or not table.numel():
        return torch.zeros_like(table)
    pages = mmap.mmap(-1, table.numel() * table.element_size(), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=table.dtype).view(table.shape)
