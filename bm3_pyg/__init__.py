"""BM3 multimodal recommendation on PyTorch Geometric."""

import os
import sys
from typing import TYPE_CHECKING

from bm3_pyg.later import lazily

if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    # Compiled loops alternate with PyTorch's operators on the same cores. Its idle threads should wait briefly: long
    # waits take the loops' cores, and without any each small operator has to wake them. Read when torch is loaded.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

if TYPE_CHECKING:
    from bm3_pyg.data.load import load_dataset
    from bm3_pyg.errors import BM3Error
    from bm3_pyg.eval.ranking import evaluate
    from bm3_pyg.models.bm3 import BM3
    from bm3_pyg.models.bm3_lightgcn import BM3LightGCN
    from bm3_pyg.optim.deferred_adam import build_optimizer
    from bm3_pyg.serving.top_k import recommend
    from bm3_pyg.train.loading import load_run
    from bm3_pyg.train.loop import fit
    from bm3_pyg.train.settings import TrainConfig

__version__ = "0.1.0"
__all__ = [
    "BM3",
    "BM3Error",
    "BM3LightGCN",
    "TrainConfig",
    "build_optimizer",
    "evaluate",
    "fit",
    "load_dataset",
    "load_run",
    "recommend",
]
__getattr__, __dir__ = lazily(
    __name__,
    {
        "BM3": "bm3_pyg.models.bm3",
        "BM3Error": "bm3_pyg.errors",
        "BM3LightGCN": "bm3_pyg.models.bm3_lightgcn",
        "TrainConfig": "bm3_pyg.train.settings",
        "build_optimizer": "bm3_pyg.optim.deferred_adam",
        "evaluate": "bm3_pyg.eval.ranking",
        "fit": "bm3_pyg.train.loop",
        "load_dataset": "bm3_pyg.data.load",
        "load_run": "bm3_pyg.train.loading",
        "recommend": "bm3_pyg.serving.top_k",
    },
)
