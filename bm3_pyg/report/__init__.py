"""Results as tables."""

from bm3_pyg.report.table import description, metrics_table

__all__ = ["description", "metrics_table"]
