"""What Triton makes of the kernels of a training step, for GPUs that need not be here.

    python benchmarks/speed/compiled.py      # needs the package triton, no GPU

takes training steps on a CPU in which every launch of a kernel compiles it and does no more, so it is compiled as a GPU
would have it: for each type, dimension and kind of operands. Prints registers and bytes spilled of a thread, shared
memory of a program, and how the elements of rows are loaded.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import bm3_pyg  # isort: skip  # before torch, for the wait policy it sets
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from bm3_pyg.nn.objective import Batch

ARCHES = (80, 90)
DTYPES = (torch.float32, torch.float64)
DIMS = (4096, 384, 100)  # of features: those of the published datasets, and one that 16 does not divide
BATCHES = (32, 31, 1)
ROWS = 15  # of each table, and of a block of an update at most, so that batches are taken in several


@dataclass(frozen=True)
class Compiled:
    """A kernel as compiled for ``arch``.

    Attributes:
        registers, spilled: of a thread; bytes.
        shared: bytes of a program.
        loads: how often a thread loads 16 bytes at once.
    """

    kernel: str
    arch: int
    dtype: str
    dim: int
    registers: int
    spilled: int
    shared: int
    loads: int


def main() -> int:
    columns = "arch", "type", "kernel", "dim", "registers", "spilled", "shared", "16-byte loads"
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for arch in ARCHES:
        for dtype in DTYPES:
            for made in compiled_kernels(arch, dtype):
                cells = f"sm_{made.arch}", made.dtype, f"`{made.kernel}`", made.dim, made.registers
                print("| " + " | ".join(map(str, (*cells, made.spilled, made.shared, made.loads))) + " |")
    return 0


def compiled_kernels(
    arch: int, dtype: torch.dtype, dims: Sequence[int] = DIMS, batches: Sequence[int] = BATCHES
) -> list[Compiled]:
    """Every kernel that training steps with features of these ``dims`` and ``batches`` launch, in order.

    A kernel that is compiled anew for another batch is there more than once.
    """
    torch.manual_seed(0)
    edges = torch.randint(ROWS, (2, 60))
    features = {f"of{dim}": torch.randn(ROWS, dim) for dim in dims}
    model = bm3_pyg.BM3(ROWS, ROWS, edges, modalities=features).to(dtype)
    optimizer = bm3_pyg.build_optimizer(model)
    made: dict[str, Compiled] = {}
    with compiling(arch, made):
        for size in (*batches, *batches):  # nothing is owed to rows in the first steps
            model.loss(*torch.randint(ROWS, (2, size))).total.backward()
            optimizer.step()
            optimizer.zero_grad()
    return list(made.values())


@contextmanager
def compiling(arch: int, made: dict[str, Compiled]) -> Iterator[None]:
    """Launches, on CPU tensors, compile for ``arch``, fill ``made`` by hash, and write nothing."""
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **constants: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **constants)
        if kernel.hash not in made:
            operands = dict(zip(self.arg_names, args, strict=False))
            made[kernel.hash] = _measured(kernel, arch, operands["dim"])
        return kernel

    class Target:
        """What Triton asks a driver for when it does not launch."""

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", arch, 32)

        def get_current_device(self) -> int:
            return arch

        def get_current_stream(self, device: int) -> int:
            return 0

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(JITFunction, "run", compile_only))
        stack.enter_context(mock.patch.object(driver, "_active", Target()))
        stack.enter_context(mock.patch.object(Batch, "of", Batch.as_given))
        for module in ("bm3_pyg.optim.rows", "bm3_pyg.optim.row_gradient", "bm3_pyg.ops.loss"):
            stack.enter_context(mock.patch(f"{module}.backend_for", return_value="triton"))
        yield


def _measured(kernel: Any, arch: int, dim: int) -> Compiled:
    ptx, wide = kernel.asm["ptx"], r"ld\.global\.(v4\.b32|v2\.b64)"
    suffix = "a" if arch >= 90 else ""
    with tempfile.TemporaryDirectory() as folder:
        (source := Path(folder, "kernel.ptx")).write_text(ptx)
        command = [triton.knobs.nvidia.ptxas.path, "-v", f"--gpu-name=sm_{arch}{suffix}", str(source)]
        log = subprocess.run([*command, "-o", f"{folder}/cubin"], capture_output=True, text=True, check=True).stderr
    registers = int(re.findall(r"Used (\d+) registers", log)[0])
    spilled = sum(int(bytes_) for bytes_ in re.findall(r"(\d+) bytes spill", log))
    pointers = kernel.src.signature.values()
    dtype = "float64" if "*fp64" in list(pointers)[:2] else "float32"
    return Compiled(
        kernel.name.lstrip("_"),
        arch,
        dtype,
        dim,
        registers,
        spilled,
        kernel.metadata.shared,
        len(re.findall(wide, ptx)),
    )


if __name__ == "__main__":
    sys.exit(main())
