"""Training runs: settings, the loop, the run directory."""

from typing import TYPE_CHECKING

from bm3_pyg.later import lazily

if TYPE_CHECKING:
    from bm3_pyg.train.loading import load_run
    from bm3_pyg.train.loop import TrainResult, fit
    from bm3_pyg.train.settings import TrainConfig

__all__ = ["TrainConfig", "TrainResult", "fit", "load_run"]
__getattr__, __dir__ = lazily(
    __name__,
    {
        "TrainConfig": "bm3_pyg.train.settings",
        "TrainResult": "bm3_pyg.train.loop",
        "fit": "bm3_pyg.train.loop",
        "load_run": "bm3_pyg.train.loading",
    },
)
