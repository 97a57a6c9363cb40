"""The gradient of a table of which a step reads few rows: kept in those rows, and factored where they are projected."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bm3_pyg.ops.backend import backend_for
from bm3_pyg.ops.csr import add_rows, first_places


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
