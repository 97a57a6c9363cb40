r"""A table read by rows, whose gradient stays in the rows it came from.

Of a feature table [N, d] a training step reads n rows and projects them, :math:`Z = X_{rows} W^\top + b`. The gradient
of the table is zero elsewhere and :math:`dZ\, W` in those rows. Plain autograd makes it a dense [N, d] tensor.
Once a :class:`bm3_pyg.optim.DeferredAdam` holds the table, backward hands over the factors ``dZ`` and ``W`` instead, as
a :class:`RowGradient`, and rows that the optimizer has not moved yet are caught up whenever they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bm3_pyg.errors import ConfigError
from bm3_pyg.ops.cpu import Recycler
from bm3_pyg.ops.csr import take_rows
from bm3_pyg.ops.precision import full_precision
from bm3_pyg.optim.row_gradient import RowGradient, RowPart

BLOCK = 1024  # rows of a copy or an export that are read at once


class Deferral(Protocol):
    """An optimizer's view of one table: moves it still owes to rows that no recent step touched."""

    @property
    def stamp(self) -> tuple[int, int]:
        """Changes whenever rows read before may be out of date."""

    def read(self, rows: Tensor, out: Tensor) -> Tensor:
        """Fill ``out`` [n, d] with ``rows`` [n], up to date, and return it; nothing is written back."""

    def flush(self) -> None:
        """Write every owed move into the table."""


class RowTable(nn.Module):
    """A table [N, d] read by rows.

    :meth:`gather`, :meth:`project`, :meth:`iter_rows`, ``state_dict()`` and copies show rows up to date, and write
    nothing. ``.weight`` is the parameter itself, to be read, differentiated or changed in place, so it must be up to
    date where it lies: while an optimizer owes moves to rows, reading ``.weight`` writes them (see :meth:`flush`; no
    value changes, and later training only in rounding). :attr:`shape` and :attr:`stored` write nothing;
    ``parameters()`` hands out :attr:`stored` too, so call :meth:`flush` before reading values through it.

    Args:
        weight: [N, d], not copied; float32 or float64 if trainable, else of any dtype and possibly memory-mapped.
            A frozen one keeps its dtype: ``.double()`` and the like leave it alone.
        trainable: whether ``weight`` is a parameter. Otherwise it is a buffer outside ``state_dict()``.

    Raises:
        ConfigError: ``weight`` is not a matrix, or is trainable in another dtype.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, trainable: bool = True) -> None:
        super().__init__()
        if weight.dim() != 2:
            raise ConfigError(f"RowTable: weight has shape {list(weight.shape)}, expected [rows, columns]")
        if trainable and weight.dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"RowTable: a trainable weight is float32 or float64, got {weight.dtype}")
        self.deferral: Deferral | None = None
        self._memory = Recycler()
        if trainable:
            self.weight = nn.Parameter(weight.detach().contiguous())
        else:
            self.register_buffer("weight", weight, persistent=False)

    @property
    def shape(self) -> torch.Size:
        """[N, d], without reading any row."""
        return self.stored.shape

    @property
    def stored(self) -> Tensor:
        """The weight as stored, without the moves that an optimizer still owes: for optimizers."""
        stored = self._parameters["weight"] if self.trainable else self._buffers["weight"]
        assert stored is not None
        return stored

    @property
    def trainable(self) -> bool:
        return "weight" in self._parameters

    def gather(self, rows: Tensor) -> Tensor:
        """The rows themselves, in float32 unless the table is float64.

        Shapes: ``rows`` [n] int64, distinct or not -> [n, d].
        """
        if self.deferral is not None:
            return cast(Tensor, _Gather.apply(self.stored, rows, self.deferral))
        picked = take_rows(self.stored, rows) if self.trainable else self.stored.index_select(0, rows)
        return picked if picked.dtype == torch.float64 else picked.float()

    @full_precision
    def project(self, rows: Tensor, linear: nn.Linear) -> Tensor:
        """``gather(rows) @ linear.weight.T + linear.bias``, in the dtype of ``linear``, whatever autocast says.

        Fastest where rows are distinct and increasing.

        Shapes: ``rows`` [n] int64 -> [n, D].
        """
        dtype = linear.weight.dtype
        if self.deferral is not None and torch.is_grad_enabled():
            out = self._memory.empty_rows(len(rows), self.stored)
            bias = None if linear.bias is None else linear.bias.to(self.stored)
            args = (self.stored, rows, linear.weight.to(self.stored), bias, self.deferral, out)
            return cast(Tensor, _Project.apply(*args)).to(dtype)
        return nn.functional.linear(self.gather(rows).to(dtype), linear.weight, linear.bias)

    @torch.no_grad()
    def flush(self) -> None:
        """Write every owed move into the table, in place.

        Reads need no flush. What training computes after one is the same but for rounding, as sums are split elsewhere.
        """
        if self.deferral is not None:
            self.deferral.flush()

    def iter_rows(self, block: int = BLOCK) -> Iterator[Tensor]:
        """Blocks [<= block, d] of the table from top to bottom, up to date, for export in bounded memory."""
        for rows in torch.arange(self.shape[0], device=self.stored.device).split(block):
            with torch.no_grad():
                yield self.gather(rows)

    def extra_repr(self) -> str:
        return f"{self.shape[0]}, {self.shape[1]}, trainable={self.trainable}"

    def __getattr__(self, name: str) -> Any:
        """Parameters and buffers, ``weight`` up to date."""
        if name == "weight" and self.__dict__.get("deferral") is not None:
            self.flush()
        return super().__getattr__(name)

    @torch.no_grad()
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RowTable:
        """A frozen table is moved and never cast. A table that is moved or cast is let go by its optimizer."""
        some = fn(self.stored.detach()[:0])
        if not self.trainable:
            if some.device == self.stored.device:
                return self
            dtype = self.stored.dtype
            return cast(RowTable, super()._apply(lambda tensor: fn(tensor).to(dtype), recurse))
        if self.deferral is not None and (some.dtype, some.device) != (self.stored.dtype, self.stored.device):
            self.flush()
            self.deferral = None
            if isinstance(self.stored.grad, RowGradient):
                self.stored.grad = self.stored.grad.to_dense()
        return cast(RowTable, super()._apply(fn, recurse))

    def _current(self, deferral: Deferral) -> Tensor:
        """A copy [N, d] that is up to date."""
        current = torch.empty_like(self.stored.detach())
        rows = torch.arange(len(current), device=current.device)
        for some, room in zip(rows.split(BLOCK), current.split(BLOCK), strict=True):
            deferral.read(some, room)
        return current

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.deferral is not None:
            destination[prefix + "weight"] = self._current(self.deferral)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.flush()  # what is loaded is up to date, so nothing may be owed to it
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: an up-to-date table that no optimizer holds."""
        state = self.__dict__.copy()
        state.pop("_compiled_call_impl", None)
        if self.deferral is not None:
            state |= {"deferral": None, "_parameters": {"weight": nn.Parameter(self._current(self.deferral))}}
        return state


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor, deferral: Deferral) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.weight = weight
        return deferral.read(rows, torch.empty(len(rows), weight.shape[1], dtype=weight.dtype, device=weight.device))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return RowGradient([RowPart(ctx.saved_tensors[0], gradient)], ctx.weight), None, None


class _Project(torch.autograd.Function):
    """Keeps the rows it read, for dW and the optimizer, and a copy of W, so that a later change to W does no harm."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, rows: Tensor, basis: Tensor, bias: Tensor | None, deferral: Deferral, out: Tensor
    ) -> Tensor:
        read = deferral.read(rows, out)
        ctx.save_for_backward(rows, basis, read)
        ctx.weight, ctx.read_at = weight, deferral.stamp
        return nn.functional.linear(read, basis, bias)

    @staticmethod
    @once_differentiable
    @full_precision
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, basis, read = ctx.saved_tensors
        needs_table, _, needs_basis, needs_bias, _, _ = ctx.needs_input_grad
        table_gradient = None
        if needs_table:
            part = RowPart(rows, gradient, basis.detach().clone(), read, ctx.read_at)
            table_gradient = RowGradient([part], ctx.weight)
        basis_gradient = gradient.T @ read if needs_basis else None
        return table_gradient, None, basis_gradient, gradient.sum(0) if needs_bias else None, None, None
