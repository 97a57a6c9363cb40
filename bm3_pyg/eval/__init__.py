"""Full ranking, its metrics, and cold items. What is done with trained models is in serving/, and found here still."""

from bm3_pyg.eval.cold import with_cold_items
from bm3_pyg.eval.ranking import evaluate, rank
from bm3_pyg.eval.tasks import RankingTask, ranking_task
from bm3_pyg.later import lazily

__all__ = ["RankingTask", "evaluate", "rank", "ranking_task", "with_cold_items"]
__getattr__, __dir__ = lazily(
    __name__,
    {
        "recommend": "bm3_pyg.serving.top_k",
        "recommend_new": "bm3_pyg.serving.new_users",
        "similar_items": "bm3_pyg.serving.top_k",
    },
)
