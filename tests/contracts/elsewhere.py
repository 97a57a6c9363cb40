"""Tensors that say they are on a GPU, so that a machine without one can tell whether devices are mixed.

Within :class:`Elsewhere` what is made on or moved to "cuda" is computed on the CPU, but joins only with its like, as on
a GPU. Unlike PyTorch's fake tensors these have values, so whatever depends on values can be walked, and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bm3_pyg.optim.row_gradient import RowGradient

THERE = torch.device("cuda:0")
aten = torch.ops.aten
INDEXED = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)


class Remote(Tensor):
    """A tensor "on a GPU"; ``inside`` is on the CPU."""

    inside: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    device = property(lambda self: THERE)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @staticmethod
    def __new__(cls, inside: Tensor) -> Remote:
        strides = inside.stride() if inside.layout == torch.strided else None
        remote: Remote = Tensor._make_wrapper_subclass(
            cls, inside.shape, strides=strides, dtype=inside.dtype, device=torch.device("meta")
        )
        remote.inside = inside
        return remote

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Remote({self.inside!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return run(func, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(isinstance(value, RowGradient) for value in leaves(args)):
            with self:  # what it makes is elsewhere too
                return RowGradient.__torch_dispatch__(func, types, args, kwargs)
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in leaves((args, kwargs)) if isinstance(value, Tensor)]
    remote = any(isinstance(value, Remote) for value in tensors)
    if kwargs.get("device") is not None:
        remote = torch.device(kwargs["device"]).type in ("cuda", "meta")  # what PyTorch's own C++ takes it for
        kwargs = {**kwargs, "device": None if func is aten._to_copy.default else torch.device("cpu")}
    elif remote and func not in (aten.copy_.default, aten._to_copy.default):
        looked_at = tensors
        if func in INDEXED and isinstance(args[0], Remote):  # indices may come from the CPU
            looked_at = [args[0], *args[2:3]]
        near = [value for value in looked_at if isinstance(value, Tensor) and not isinstance(value, Remote)]
        if any(value.dim() for value in near):
            shapes = ", ".join(f"{list(value.shape)} on {value.device}" for value in tensors)
            raise RuntimeError(f"{func} mixes devices: {shapes}")
    if func is aten.copy_.default:
        args[0].inside.copy_(inside(args[1])) if isinstance(args[0], Remote) else args[0].copy_(inside(args[1]))
        return args[0]
    found = func(*mapped(inside, args), **mapped(inside, kwargs))
    if func is aten._local_scalar_dense.default or not remote:
        return found
    own = {id(value.inside): value for value in tensors if isinstance(value, Remote)}
    return mapped(lambda value: own.get(id(value), Remote(value)) if isinstance(value, Tensor) else value, found)


def leaves(value: Any) -> Iterator[Any]:
    """What lists, tuples and dictionaries hold; several times faster than PyTorch's ``tree_flatten``."""
    if isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(function, item) for item in value)
    if isinstance(value, dict):
        return {key: mapped(function, item) for key, item in value.items()}
    return function(value)


def inside(value: Any) -> Any:
    return value.inside if isinstance(value, Remote) else value


@contextmanager
def elsewhere() -> Iterator[None]:
    make: Any = Tensor._make_wrapper_subclass

    def made(cls: type, *args: Any, device: Any, **kwargs: Any) -> Tensor:  # autograd asks CUDA for its streams
        kind = torch.device(device).type
        tensor: Tensor = make(cls, *args, device="meta" if kind == "cuda" else device, **kwargs)
        return tensor

    with pytest.MonkeyPatch.context() as patch, Elsewhere():  # type: ignore[no-untyped-call]
        patch.setattr(Tensor, "_make_wrapper_subclass", staticmethod(made))
        patch.setattr(RowGradient, "device", THERE)
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setenv("BM3_KERNELS", "torch")
        yield
