"""BM3 and its parts."""

from bm3_pyg.nn.bm3 import BM3
from bm3_pyg.nn.lightgcn import BM3LightGCN
from bm3_pyg.nn.objective import BM3Losses, BootstrapObjective
from bm3_pyg.nn.row_table import RowTable

__all__ = ["BM3", "BM3LightGCN", "BM3Losses", "BootstrapObjective", "RowTable"]
