"""DeferredAdam, Adam for huge tables of which a step reads few rows, with dense Adam's result; and those tables."""

from bm3_pyg.optim.deferred_adam import DeferredAdam, build_optimizer, check_trainable
from bm3_pyg.optim.row_table import RowTable

__all__ = ["DeferredAdam", "RowTable", "build_optimizer", "check_trainable"]
