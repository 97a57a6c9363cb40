"""Use after training: top-k lists, similar items, new users, embeddings for other tools."""

from bm3_pyg.serving.new_users import recommend_new
from bm3_pyg.serving.top_k import recommend, similar_items

__all__ = ["recommend", "recommend_new", "similar_items"]
