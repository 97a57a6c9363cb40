r"""A table read by rows, whose gradient stays in the rows it came from.

Of a feature table [N, d] a training step reads n rows and projects them, :math:`Z = X_{rows} W^\top + b`. The gradient
of the table is zero elsewhere and :math:`dZ\, W` in those rows. Plain autograd makes it a dense [N, d] tensor.
Once a :class:`bm3_pyg.optim.DeferredAdam` holds the table, backward hands over the factors ``dZ`` and ``W`` instead, as
a :class:`RowGradient`, and rows that the optimizer has not moved yet are caught up whenever they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bm3_pyg.errors import ConfigError
from bm3_pyg.ops.backend import backend_for
from bm3_pyg.ops.cpu import Recycler
from bm3_pyg.ops.csr import add_rows, first_places, take_rows
from bm3_pyg.ops.precision import full_precision

_CAPACITY = 512  # rows; buffers are a multiple of it long


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

    :meth:`gather`, :meth:`project`, ``.weight``, ``state_dict()`` and copies always show rows that are up to date.
    They do so without writing, but for ``.weight``, which writes owed moves back first (see :meth:`flush`); where the
    shape is all you need, use :attr:`shape`. ``parameters()`` hands out the stored rows as they are: call :meth:`flush`
    before reading values through it.

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
        self._rooms = Rooms()
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
            return cast(Tensor, _Gather.apply(self.stored, rows, self.deferral))  # type: ignore[no-untyped-call]
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
            room = self._rooms.empty(len(rows), self.stored)
            bias = None if linear.bias is None else linear.bias.to(self.stored)
            args = (self.stored, rows, linear.weight.to(self.stored), bias, self.deferral, room)
            return cast(Tensor, _Project.apply(*args)).to(dtype)  # type: ignore[no-untyped-call]
        return nn.functional.linear(self.gather(rows).to(dtype), linear.weight, linear.bias)

    @torch.no_grad()
    def flush(self) -> None:
        """Write every owed move into the table, in place.

        Reads need no flush. What training computes after one is the same but for rounding, as sums are split elsewhere.
        """
        if self.deferral is not None:
            self.deferral.flush()

    def iter_rows(self, block: int = 1024) -> Iterator[Tensor]:
        """Blocks [<= block, d] of the table from top to bottom, up to date, for export in bounded memory."""
        for rows in torch.arange(self.shape[0], device=self.stored.device).split(block):
            with torch.no_grad():
                yield self.gather(rows)

    def extra_repr(self) -> str:
        return f"{self.shape[0]}, {self.shape[1]}, trainable={self.trainable}"

    def __getattr__(self, name: str) -> Any:
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
            return cast(RowTable, super()._apply(lambda tensor: fn(tensor).to(dtype), recurse))  # type: ignore[no-untyped-call]
        if self.deferral is not None and (some.dtype, some.device) != (self.stored.dtype, self.stored.device):
            self.flush()
            self.deferral = None
            if isinstance(self.stored.grad, RowGradient):
                self.stored.grad = self.stored.grad.to_dense()
        return cast(RowTable, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]

    def _current(self) -> Tensor:
        """A copy [N, d] that is up to date."""
        return torch.cat([*self.iter_rows(), self.stored.detach()[:0]])

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.deferral is not None:
            destination[prefix + "weight"] = self._current()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.flush()  # what is loaded is up to date, so nothing may be owed to it
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: an up-to-date table that no optimizer holds."""
        state = self.__dict__.copy()
        state.pop("_compiled_call_impl", None)
        if self.deferral is not None:
            state |= {"deferral": None, "_parameters": {"weight": nn.Parameter(self._current())}}
        return state | {"_rooms": Rooms()}


@dataclass
class RowPart:
    """``values @ basis`` (``values`` alone if there is no basis) at ``rows``.

    Shapes: rows [n], values [n, D] and basis [D, d], or values [n, d]. ``read`` [n, d] holds the rows as the forward
    pass read them, at the deferral's stamp ``read_at``, for an optimizer that needs them again. ``first`` [n], if
    given, is false where a row repeats one before it, with values of 0.
    """

    rows: Tensor
    values: Tensor
    basis: Tensor | None = None
    read: Tensor | None = None
    read_at: tuple[int, int] | None = None
    first: Tensor | None = None

    def product(self, start: int, stop: int, out: Tensor) -> Tensor:
        """Rows ``start:stop`` of the gradient, [stop - start, d]; ``out`` [stop - start or more, d] may hold it."""
        if self.basis is None:
            return self.values[start:stop]
        return torch.mm(self.values[start:stop], self.basis, out=out[: stop - start])


class RowGradient(Tensor):
    """The gradient [N, d] of a table as a sum of :class:`RowPart`, never stored dense.

    The ``grad`` of a deferred table is one, so accumulation, ``zero_grad``, ``grad.mul_(scale)`` and norms work as on
    any gradient. Other operations see :meth:`to_dense`; other in-place operations are refused.
    """

    parts: list[RowPart]

    @staticmethod
    def __new__(cls, parts: list[RowPart], like: Tensor) -> RowGradient:
        gradient: RowGradient = torch.Tensor._make_wrapper_subclass(
            cls, like.shape, dtype=like.dtype, device=like.device
        )
        gradient.parts = parts
        return gradient

    @torch.no_grad()
    def merged(self) -> RowPart:
        """The same gradient as one part whose rows are distinct and increasing; a part with nothing to merge is itself.

        Factors are merged side by side, [Z_1 Z_2] [W_1; W_2], so a product over u rows is all that is ever made.
        With Triton's kernels, which need not wait for the device to count them, rows stay where they are instead, and
        the sum stands where a row stands first.
        """
        none = torch.empty(0, dtype=torch.int64, device=self.device)
        if backend_for(self) == "triton":
            rows = torch.cat([none, *(part.rows for part in self.parts)])
            where = first_places(rows)
            merged = self._sum(rows, where)
            merged.first = where == torch.arange(len(rows), device=rows.device)
            if len(self.parts) == 1:
                merged.read, merged.read_at = self.parts[0].read, self.parts[0].read_at
            return merged
        if len(self.parts) == 1 and bool((self.parts[0].rows.diff() > 0).all()):
            return self.parts[0]
        rows, where = torch.unique(torch.cat([none, *(part.rows for part in self.parts)]), return_inverse=True)
        return self._sum(rows, where)

    def _sum(self, rows: Tensor, where: Tensor) -> RowPart:
        """One part over ``rows`` [u], to whose places ``where`` the rows of all parts are added."""
        places = where.split([len(part.rows) for part in self.parts])
        factored = all(part.basis is not None for part in self.parts)
        columns = [part.values.shape[1] for part in self.parts] if factored else [self.shape[1]]
        values = torch.zeros(len(rows), sum(columns), dtype=self.dtype, device=self.device)
        if not factored:
            for part, place in zip(self.parts, places, strict=True):
                add_rows(values, place, part.values if part.basis is None else part.values @ part.basis)
            return RowPart(rows, values)
        for part, place, room in zip(self.parts, places, values.split(columns, dim=1), strict=True):
            add_rows(room, place, part.values)
        bases = [part.basis for part in self.parts if part.basis is not None]
        return RowPart(rows, values, torch.cat([*bases, values.new_empty(0, self.shape[1])]))

    @torch.no_grad()
    def norm2(self) -> Tensor:
        """Frobenius norm, a scalar: ||Z W||^2 = <Z^T Z, W W^T>, in float64 because its terms may cancel."""
        part = self.merged()
        if part.basis is None:
            norm: Tensor = torch.linalg.vector_norm(part.values)
            return norm
        values, basis = part.values.double(), part.basis.double()
        squared = ((values.T @ values) * (basis @ basis.T)).sum()
        norm = squared.clamp(min=0).sqrt().to(self.dtype)
        return norm

    @torch.no_grad()
    def to_dense(self, dtype: torch.dtype | None = None, *, masked_grad: bool = True) -> Tensor:  # type: ignore[override]
        """[N, d]."""
        dense = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        for part in self.parts:
            add_rows(dense, part.rows, part.values if part.basis is None else part.values @ part.basis)
        return dense if dtype is None else dense.to(dtype)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"RowGradient(shape={list(self.shape)}, rows={[len(part.rows) for part in self.parts]})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        aten, kwargs, first = torch.ops.aten, kwargs or {}, args[0] if args else None
        if isinstance(first, RowGradient):
            if func in (aten.detach.default, aten.alias.default):
                return RowGradient(first.parts, first)
            if func is aten.clone.default:
                return RowGradient(list(first.parts), first)
            if func is aten.add.Tensor and isinstance(args[1], RowGradient) and not kwargs:
                return RowGradient([*first.parts, *args[1].parts], first)
            if func is aten.linalg_vector_norm.default and args[1:] in ((), (2,)) and not kwargs:
                return first.norm2()
            if func is aten.zero_.default:
                first.parts.clear()
                return first
            if func is aten.add_.Tensor and args[1].shape == first.shape and not kwargs:
                first.parts.extend(_parts_of(args[1]))
                return first
            if func in (aten.mul_.Tensor, aten.mul_.Scalar) and _is_scalar(args[1]):
                first.parts[:] = [replace(part, values=part.values * args[1]) for part in first.parts]
                return first
        if func in (aten._foreach_zero_.default, aten._foreach_mul_.Scalar, aten._foreach_mul_.Tensor):
            for tensor in args[0]:
                tensor.mul_(args[1]) if len(args) > 1 else tensor.zero_()
            return None
        if func._schema.is_mutable and any(isinstance(item, RowGradient) for item in _listed(first)):
            raise NotImplementedError(
                f"{func}: a row gradient cannot be changed so (optimizer.clip_grad_norm_ scales it)"
            )
        return func(*_densified(args), **{key: _densified([value])[0] for key, value in kwargs.items()})


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
        ctx: Any, weight: Tensor, rows: Tensor, basis: Tensor, bias: Tensor | None, deferral: Deferral, room: Tensor
    ) -> Tensor:
        read = deferral.read(rows, room)
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


class Rooms:
    """Buffers used again at every step: fresh memory of such sizes costs more in page faults than reading rows does."""

    def __init__(self) -> None:
        self._memory = Recycler()

    def empty(self, rows: int, like: Tensor) -> Tensor:
        """Uninitialised [rows, d] like a table; batches of about the same number of rows share memory."""
        capacity = -(-rows // _CAPACITY) * _CAPACITY
        if like.is_cpu:
            return self._memory.empty_like(like.detach()[:1].expand(capacity, -1))[:rows]
        return torch.empty(rows, like.shape[1], dtype=like.dtype, device=like.device)


def _parts_of(gradient: Tensor) -> list[RowPart]:
    """The parts of a gradient [N, d], which if dense is one part with every row."""
    if isinstance(gradient, RowGradient):
        return gradient.parts
    return [RowPart(torch.arange(len(gradient), device=gradient.device), gradient)]


def _is_scalar(value: object) -> bool:
    return not isinstance(value, Tensor) or (value.dim() == 0 and not isinstance(value, RowGradient))


def _listed(value: object) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _densified(values: Any) -> list[Any]:
    """Arguments with every row gradient, also inside lists, made dense."""
    return [
        value.to_dense()
        if isinstance(value, RowGradient)
        else _densified(value)
        if any(isinstance(item, RowGradient) for item in _listed(value))
        else value
        for value in values
    ]
