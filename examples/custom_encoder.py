"""An encoder of your own in BM3: any module (x, edge_index) -> x takes the place of the propagation.

Here a LightGCN whose layers have learned weights. BM3 has no negative samples to push embeddings apart, so encoders
with weight matrices of their own (GCNConv, SAGEConv, GATConv) can make all nodes alike: watch validation Recall.
"""

import torch
from torch import Tensor, nn
from torch_geometric.nn import LGConv

from bm3_pyg import BM3, TrainConfig, evaluate, fit, load_dataset
from bm3_pyg.models import Popularity


class WeightedLayers(nn.Module):
    """The sum of L + 1 layers of LightGCN's convolution, weighted by a softmax that is learned."""

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.conv = LGConv()
        self.logits = nn.Parameter(torch.zeros(num_layers + 1))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """x [U + I, D], users first; edge_index [2, 2E] has every interaction in both directions."""
        weights = self.logits.softmax(0)
        result = weights[0] * x
        for weight in weights[1:]:
            x = self.conv(x, edge_index)
            result = result + weight * x
        return result


data = load_dataset("demo")
torch.manual_seed(0)
encoder = WeightedLayers(num_layers=1)
model = BM3.from_data(data, encoder=encoder, embedding_dim=32, modalities=["text"])
fit(model, data, TrainConfig(max_epochs=4, batch_size=512, lr=0.01), verbose=False)

print(f"popularity:     test Recall@20 {evaluate(Popularity.from_data(data), data, k=(20,))['recall@20']:.4f}")
print(f"custom encoder: test Recall@20 {evaluate(model, data, k=(20,))['recall@20']:.4f}")
print(f"learned weights of the layers: {', '.join(f'{w:.3f}' for w in encoder.logits.softmax(0).tolist())}")
