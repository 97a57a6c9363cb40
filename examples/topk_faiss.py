"""Top-k from FAISS: BM3's scores are dot products, so an inner-product index over the items' embeddings serves them.

Needs faiss: pip install "bm3-pyg[ann]". `bm3 export RUN --format faiss` writes such indices for a run.
"""

import faiss
import torch

from bm3_pyg import BM3, TrainConfig, fit, load_dataset, recommend
from bm3_pyg.data import index_of, raw_ids

K = 10

data = load_dataset("demo")
torch.manual_seed(0)
model = BM3.from_data(data, embedding_dim=32, modalities=["text"])
fit(model, data, TrainConfig(max_epochs=2, batch_size=512, lr=0.01), verbose=False)

with torch.no_grad():
    users, items = (part.numpy() for part in model.embed())  # f(h_u) [U, D], f(h_i) [I, D]
flat = faiss.IndexFlatIP(items.shape[1])
hnsw = faiss.IndexHNSWFlat(items.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
exact, _ = recommend(model, range(len(users)), k=K)
for name, index in (("flat", flat), ("hnsw", hnsw)):
    index.add(items)
    found = torch.from_numpy(index.search(users, K)[1])
    recall = (found[:, :, None] == exact[:, None, :]).any(2).double().mean()
    print(f"{name}: {index.ntotal} items, recall@{K} against exact search {recall:.4f}")

best = flat.search(users[index_of(data, "user", [42]).numpy()], K)[1][0]
print(f"user 42: items {', '.join(map(str, raw_ids(data, 'item')[best]))}")
