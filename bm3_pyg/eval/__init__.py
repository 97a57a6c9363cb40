"""Full ranking, metrics and top-k lists."""

from bm3_pyg.eval.cold import with_cold_items
from bm3_pyg.eval.new_users import recommend_new
from bm3_pyg.eval.ranking import RankingTask, evaluate, rank, ranking_task
from bm3_pyg.eval.recommend import recommend
from bm3_pyg.eval.similar import similar_items

__all__ = [
    "RankingTask",
    "evaluate",
    "rank",
    "ranking_task",
    "recommend",
    "recommend_new",
    "similar_items",
    "with_cold_items",
]
