"""A recommender of your own is its embeddings, its loss and its docstring; the commands take it by module and class.

In this folder, or with it on PYTHONPATH:

    bm3 train demo --model own_model:SoftmaxMF --set batch_size=512 lr=0.01 max_epochs=8 --out runs/softmax
    bm3 sweep demo --models bprmf own_model:SoftmaxMF --grid temperature=0.1,0.2 --set max_epochs=8 --out runs/sweep
    bm3 report runs --out report.html
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from bm3_pyg.nn import RecommenderModel


class SoftmaxLosses(NamedTuple):
    total: Tensor


class SoftmaxMF(RecommenderModel):
    """Matrix factorisation that learns to tell a user's item from the other items of the batch.

    Scores are cosines. The loss is the cross-entropy of their softmax over the batch, each item's corrected by how
    often it comes (Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", 2019).

    Args:
        embedding_dim: dimension D of the embeddings.
        temperature: what cosines are divided by; the lower, the more the nearest negatives count.
    """

    def __init__(
        self, num_users: int, num_items: int, edge_index: Tensor, *, embedding_dim: int = 64, temperature: float = 0.2
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.user_embedding = nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_embedding = nn.Parameter(torch.empty(num_items, embedding_dim))
        self.register_buffer("count", torch.bincount(edge_index[1], minlength=num_items), persistent=False)
        self.reset_parameters()

    def embed(self) -> tuple[Tensor, Tensor]:
        return normalize(self.user_embedding), normalize(self.item_embedding)

    def loss(self, users: Tensor, items: Tensor) -> SoftmaxLosses:
        scores = normalize(self.user_embedding[users]) @ normalize(self.item_embedding[items]).T / self.temperature
        again = (items[:, None] == items).fill_diagonal_(False)  # the same item is no negative
        scores = (scores - self.count[items].log()).masked_fill(again, -torch.inf)
        return SoftmaxLosses(cross_entropy(scores, torch.arange(len(items), device=items.device)))
