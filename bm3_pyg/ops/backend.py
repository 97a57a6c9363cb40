"""The one place that chooses how a kernel runs.

``BM3_KERNELS`` in the environment is one of

- ``auto`` (default): ``numba`` where it can be used, else ``torch``;
- ``numba``: loops compiled just in time, for float32 and float64 on a CPU; other operands take ``torch``;
- ``torch``: PyTorch's own operators, on any device;
- ``torch_sparse``: products by the ``torch_sparse`` package (the ``sparse`` extra), the rest as ``torch``.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

from bm3_pyg.errors import ConfigError, nearest

BACKENDS = ("auto", "numba", "torch", "torch_sparse")


def backend_for(x: Tensor) -> str:
    """``numba``, ``torch`` or ``torch_sparse``: what runs kernels on operands like ``x``.

    Raises:
        ConfigError: if ``BM3_KERNELS`` is unknown or asks for a package that is not installed.
    """
    asked = os.environ.get("BM3_KERNELS", "auto")
    if asked not in BACKENDS:
        raise ConfigError(f"BM3_KERNELS: got {asked!r}, {nearest(asked, BACKENDS)}")
    if asked in ("numba", "torch_sparse") and not _installed(asked):
        raise ConfigError(f"BM3_KERNELS: got {asked!r}, but the package {asked} is not installed")
    if asked in ("torch", "torch_sparse"):
        return asked
    loops = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and _compiles()
    return "numba" if loops else "torch"


@functools.cache
def _compiles() -> bool:
    if not _installed("numba"):
        return False
    import numba

    return not getattr(numba.config, "DISABLE_JIT", False)


@functools.cache
def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
