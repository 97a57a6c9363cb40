"""BM3 multimodal recommendation on PyTorch Geometric."""

import os
import sys

if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    # Compiled loops alternate with PyTorch's operators on the same cores. Its idle threads should wait briefly: long
    # waits take the loops' cores, and without any each small operator has to wake them. Read when torch is loaded.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

from bm3_pyg.data import load_dataset
from bm3_pyg.errors import BM3Error
from bm3_pyg.eval import evaluate, recommend
from bm3_pyg.nn import BM3
from bm3_pyg.optim import build_optimizer
from bm3_pyg.train import TrainConfig, fit, load_run

__version__ = "0.1.0"
__all__ = [
    "BM3",
    "BM3Error",
    "TrainConfig",
    "build_optimizer",
    "evaluate",
    "fit",
    "load_dataset",
    "load_run",
    "recommend",
]
