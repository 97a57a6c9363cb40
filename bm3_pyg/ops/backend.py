"""The one place that chooses how a kernel runs.

``BM3_KERNELS`` in the environment is one of

- ``auto`` (default): ``numba`` or ``triton`` where they can be used, else ``torch``;
- ``numba``: loops compiled just in time, for float32 and float64 on a CPU; other operands take ``torch``;
- ``triton``: fused kernels for float32 and float64 on a GPU, by which a training step has static shapes and never waits
  for the device; with ``TRITON_INTERPRET=1`` on a CPU too, slowly, to test them; other operands as by ``auto``;
- ``torch``: PyTorch's own operators, on any device;
- ``torch_sparse``: products by the ``torch_sparse`` package (the ``sparse`` extra), the rest as ``torch``.

``torch.compile`` cannot read compiled loops: within it, they and Triton's kernels give way to ``torch``.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

from bm3_pyg.errors import ConfigError, nearest

BACKENDS = ("auto", "numba", "triton", "torch", "torch_sparse")


def backend_for(x: Tensor) -> str:
    """``numba``, ``triton``, ``torch`` or ``torch_sparse``: what runs kernels on operands like ``x``.

    Raises:
        ConfigError: if ``BM3_KERNELS`` is unknown or asks for a package that is not installed.
    """
    setting = os.environ.get("BM3_KERNELS", "auto")
    if setting not in BACKENDS:
        raise ConfigError(f"BM3_KERNELS: got {setting!r}, {nearest(setting, BACKENDS)}")
    if setting in ("numba", "triton", "torch_sparse") and not _installed(setting):
        raise ConfigError(f"BM3_KERNELS: got {setting!r}, but the package {setting} is not installed")
    if setting in ("torch", "torch_sparse"):
        return setting
    if torch.compiler.is_compiling():
        return "torch"
    if x.dtype not in (torch.float32, torch.float64):
        return "torch"
    interpreted = setting == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    if interpreted or (x.is_cuda and setting != "numba" and _installed("triton")):
        return "triton"
    return "numba" if x.is_cpu and _compiles() else "torch"


@functools.cache
def _compiles() -> bool:
    if not _installed("numba"):
        return False
    import numba

    return not getattr(numba.config, "DISABLE_JIT", False)


@functools.cache
def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
