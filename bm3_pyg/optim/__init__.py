"""DeferredAdam: Adam for huge row-sparse tables, with dense Adam's result."""

from bm3_pyg.optim.deferred_adam import DeferredAdam, build_optimizer, check_precision

__all__ = ["DeferredAdam", "build_optimizer", "check_precision"]
