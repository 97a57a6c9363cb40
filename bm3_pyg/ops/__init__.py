"""Sparse and fused kernels behind plain functions; :mod:`bm3_pyg.ops.backend` chooses how each of them runs."""

from bm3_pyg.ops.graph import Graph, build_graph
from bm3_pyg.ops.loss import dropout, weighted_cosine
from bm3_pyg.ops.propagation import propagate, propagate_rows
from bm3_pyg.ops.topk import masked_topk

__all__ = ["Graph", "build_graph", "dropout", "masked_topk", "propagate", "propagate_rows", "weighted_cosine"]
