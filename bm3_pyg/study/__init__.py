"""Studies: sweeps over models and settings, and what is told of runs: tables, statistics, reports."""

from typing import TYPE_CHECKING

from bm3_pyg.later import lazily

if TYPE_CHECKING:
    from bm3_pyg.study.text import description, metrics_table

__all__ = ["description", "metrics_table"]
__getattr__, __dir__ = lazily(__name__, dict.fromkeys(__all__, "bm3_pyg.study.text"))
