"""LightGCN, or BM3 in its place, trained on planted data in the manner of PyG's examples/lightgcn.py.

lightgcn.py and bm3_lightgcn.py differ in two lines: the constructor's and the loss's. BM3 learns from positives alone;
there the negatives only serve the printed accuracy, the share of positives that score above a random item.
"""

import torch
import torch_geometric
from torch_geometric.metrics import LinkPredRecall

import bm3_pyg

EPOCHS, BATCH, K = 5, 512, 20

torch_geometric.seed_everything(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
data = bm3_pyg.load_dataset("demo")
num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
features = {"image": data["item"].image, "text": data["item"].text}

# One id space, users first; every interaction in both directions.
rates = data["user", "rates", "item"]
offset = torch.tensor([[0], [num_users]])
train_edges, test_edges = (rates.edge_index + offset).to(device), (rates.test_edge_index + offset).to(device)
edge_index = torch.cat([train_edges, train_edges.flip(0)], dim=1)

model = bm3_pyg.BM3LightGCN(num_users, num_items, embedding_dim=64, num_layers=1, modalities=features).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


def train() -> tuple[float, float]:
    """Mean loss and accuracy of one epoch."""
    total_loss = total_accuracy = 0.0
    for index in torch.randperm(train_edges.size(1), device=device).split(BATCH):
        positives = train_edges[:, index]
        negatives = torch.stack([positives[0], num_users + torch.randint_like(index, num_items)])
        pairs = torch.cat([positives, negatives], dim=1)
        optimizer.zero_grad()
        pos_rank, neg_rank = model(edge_index, pairs).chunk(2)
        loss = model.bootstrap_loss(edge_index, positives).total
        loss.backward()
        optimizer.step()
        total_loss += float(loss.detach()) * index.numel()
        total_accuracy += float((pos_rank > neg_rank).sum())
    return total_loss / train_edges.size(1), total_accuracy / train_edges.size(1)


@torch.no_grad()
def test() -> float:
    """Recall@K of a full ranking without the training items, over the users with test positives."""
    users, items = model.get_embedding(edge_index).split([num_users, num_items])
    metric = LinkPredRecall(k=K).to(device)
    for block in test_edges[0].unique().split(1024):
        scores = users[block] @ items.T
        scores[positions(block, train_edges)] = float("-inf")
        metric.update(scores.topk(K).indices, torch.stack(positions(block, test_edges)))
    return float(metric.compute())


def positions(users: torch.Tensor, edges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns in a matrix [users, items] of the interactions ``edges`` of ``users``."""
    row, edge = (users[:, None] == edges[0]).nonzero(as_tuple=True)
    return row, edges[1, edge] - num_users


print(f"{type(model).__name__} before training: Recall@{K} {test():.4f}")
for epoch in range(1, EPOCHS + 1):
    loss, accuracy = train()
    print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.3f}, Recall@{K} {test():.4f}")
