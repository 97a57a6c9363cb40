"""BM3 multimodal recommendation on PyTorch Geometric."""

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
