"""Where the time before a command's first word goes: CPU seconds of imports and of commands, medians of several runs.

python benchmarks/startup.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tabulate import tabulate

LATE = "from bm3_pyg.cli.startup import load_when_used; load_when_used(); "
IMPORTS = {
    "Python alone": "",
    "polars": "import polars",
    "numba": "import numba",
    "PyTorch": "import torch",
    "PyTorch Geometric, as it imports itself": "import torch_geometric",
    "PyTorch Geometric, as commands import it": LATE + "import torch_geometric",
    "all that recommending takes": LATE + "import bm3_pyg.serving.lists, bm3_pyg.train.loading",
    "all that training takes": LATE + "import bm3_pyg.train.loop; import torch; "
    "torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])",
}
COMMANDS = {
    "help": "--help",
    "a run that is not there": "recommend runs/nothing",
    "a setting that is not there": "train demo --set layers=2",
    "a file of users that is not there": "recommend run --users nobody.txt",
    "lists of a run on demo": "recommend run --k 20 --out lists.parquet",
    "a run on demo, measured": "evaluate run",
    "a training of one epoch on demo": "train demo --set max_epochs=1",
}


def cpu_seconds(command: Sequence[str], folder: Path, repeats: int) -> float:
    """Median CPU seconds, of user and system, of a command and what it starts."""
    seconds = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    bm3 = [sys.executable, "-m", "bm3_pyg.cli"]
    with TemporaryDirectory() as name:
        folder = Path(name)
        first = [*bm3, "train", "demo", "--set", "max_epochs=1", "--out", "run"]
        subprocess.run(first, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        rows: list[tuple[str, float]] = []
        for what, code in IMPORTS.items():
            rows.append((f"import: {what}", cpu_seconds([sys.executable, "-c", code], folder, repeats)))
        for what, command in COMMANDS.items():
            rows.append((f"{what}: bm3 {command}", cpu_seconds([*bm3, *command.split()], folder, repeats)))
    print(tabulate(rows, ["", "CPU seconds"], tablefmt="github", floatfmt=".2f"))


if __name__ == "__main__":
    main()
