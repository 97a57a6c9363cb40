"""Full ranking, metrics and top-k lists."""

from bm3_pyg.eval.ranking import RankingTask, evaluate, rank, ranking_task
from bm3_pyg.eval.recommend import recommend

__all__ = ["RankingTask", "evaluate", "rank", "ranking_task", "recommend"]
