"""The tool in one page: train BM3 on planted data, test it beside a popularity baseline, recommend to two users."""

import torch

from bm3_pyg import BM3, TrainConfig, evaluate, fit, load_dataset, recommend
from bm3_pyg.data import index_of, raw_ids
from bm3_pyg.models import Popularity

data = load_dataset("demo")  # 2,000 users, 1,000 items with image and text features
torch.manual_seed(0)
model = BM3.from_data(data, num_layers=1)
fit(model, data, TrainConfig(max_epochs=4, batch_size=512, lr=0.01), verbose=False)

for name, recommender in (("popularity", Popularity.from_data(data)), ("BM3", model)):
    print(f"{name:<10} test Recall@20 {evaluate(recommender, data, k=(20,))['recall@20']:.4f}")

customers = [7, 42]  # ids of the source data, and so are those printed
items, scores = recommend(model, index_of(data, "user", customers), k=5, exclude=data)
for customer, row in zip(customers, raw_ids(data, "item")[items.numpy()], strict=True):
    print(f"user {customer}: items {', '.join(map(str, row))}")
