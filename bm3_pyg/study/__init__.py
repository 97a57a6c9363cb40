"""Studies: sweeps over models and settings, and what is told of runs: tables, statistics, reports."""

from bm3_pyg.study.text import description, metrics_table

__all__ = ["description", "metrics_table"]
