"""DeferredAdam: Adam for huge row-sparse tables, with dense Adam's result."""

from bm3_pyg.optim.deferred_adam import DeferredAdam, build_optimizer

__all__ = ["DeferredAdam", "build_optimizer"]
