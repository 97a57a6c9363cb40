"""From your own files to recommendations in your own ids.

Writes a small shop to a temporary folder: clicks (CSV), products with a line of text each (CSV), and image vectors
(NumPy, in the products' order). Texts become vectors by counting words here; any text encoder's vectors do as well.
"""

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import torch

from bm3_pyg import BM3, TrainConfig, evaluate, fit, load_dataset, recommend
from bm3_pyg.data import index_of, raw_ids

KINDS = ("tea", "coffee", "bicycle", "garden", "piano", "camera")
CUSTOMERS, PRODUCTS, CLICKS = 400, 240, 20


def write_shop(folder: Path) -> pl.DataFrame:
    """Customers click on products of two kinds they like, and now and then on any other. Returns the products."""
    random = np.random.default_rng(0)
    kind = random.integers(len(KINDS), size=PRODUCTS)
    skus = np.array([f"SKU-{number:04}" for number in range(PRODUCTS)])
    texts = [f"{KINDS[k]} number {number} for friends of {KINDS[k]}" for number, k in enumerate(kind)]
    products = pl.DataFrame({"sku": skus, "text": texts})
    products.write_csv(folder / "products.csv")
    centres = random.normal(size=(len(KINDS), 48))
    np.save(folder / "image_vectors.npy", (centres[kind] + random.normal(size=(PRODUCTS, 48))).astype(np.float32))
    rows = []
    for customer in range(CUSTOMERS):
        liked = np.flatnonzero(np.isin(kind, random.choice(len(KINDS), 2, replace=False)))
        anything = random.integers(PRODUCTS, size=CLICKS)
        clicked = np.where(random.random(CLICKS) < 0.9, random.choice(liked, CLICKS), anything)
        rows += [(f"customer-{customer}", skus[product], day) for day, product in enumerate(clicked)]
    pl.DataFrame(rows, schema=["customer", "sku", "day"], orient="row").write_csv(folder / "clicks.csv")
    return products


def encode(products: pl.DataFrame, dim: int = 64) -> pl.DataFrame:
    """One row per product: the id and a vector that counts the words of its text by their hash."""
    vectors = np.zeros((len(products), dim), dtype=np.float32)
    for row, text in enumerate(products["text"]):
        for word in text.split():
            vectors[row, sum(word.encode()) % dim] += 1
    return pl.DataFrame({"sku": products["sku"], "vector": vectors.tolist()})


with tempfile.TemporaryDirectory() as name:
    shop = Path(name)
    products = write_shop(shop)
    encode(products).write_parquet(shop / "text_vectors.parquet")
    data = load_dataset(
        shop / "clicks.csv",
        user="customer",
        item="sku",
        time="day",
        split="leave-one-out",
        features={"image": shop / "image_vectors.npy", "text": shop / "text_vectors.parquet"},
        items=shop / "products.csv",
    )

torch.manual_seed(0)
model = BM3.from_data(data, embedding_dim=32, num_layers=2)
fit(model, data, TrainConfig(max_epochs=15, batch_size=512, lr=0.01), verbose=False)
print(f"{data['user'].num_nodes} customers, {data['item'].num_nodes} products")
print(f"test Recall@20 {evaluate(model, data, k=(20,))['recall@20']:.3f}, at random {20 / PRODUCTS:.3f}")

customer = "customer-7"
liked = data["user", "rates", "item"].edge_index
text_of = dict(products.iter_rows())
index = index_of(data, "user", [customer])
items, scores = recommend(model, index, k=5, exclude=data)
clicked = raw_ids(data, "item")[liked[1][liked[0] == index].numpy()]
print(f"{customer} clicked on {', '.join(sorted({text_of[sku].split()[0] for sku in clicked}))}; recommended:")
for sku, score in zip(raw_ids(data, "item")[items[0].numpy()], scores[0].tolist(), strict=True):
    print(f"  {sku}  {score:6.2f}  {text_of[sku]}")
