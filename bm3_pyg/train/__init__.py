"""Training runs: settings, the loop, the run directory."""

from bm3_pyg.train.config import TrainConfig
from bm3_pyg.train.fit import TrainResult, fit
from bm3_pyg.train.run import load_run

__all__ = ["TrainConfig", "TrainResult", "fit", "load_run"]
