"""Where a run ran: versions, device, commit, memory."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bm3_pyg.ops.backend import backend_for

PACKAGES = ("bm3-pyg", "torch", "torch-geometric", "numpy", "numba", "polars", "torch-sparse")


def environment(model: nn.Module) -> dict[str, Any]:
    """What one needs to know to repeat a run of ``model``, where it is now."""
    numbers = chain(model.parameters(), model.buffers())
    first = next((tensor for tensor in numbers if tensor.is_floating_point()), torch.empty(0))
    device = first.device
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: release for name in PACKAGES if (release := _version(name))},
        "commit": _commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "kernels": backend_for(first),
    }


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far in MiB: of the allocator on a GPU, of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the source tree this package runs from, if it runs from one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip()
