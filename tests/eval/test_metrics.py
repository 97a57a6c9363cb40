from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.metrics import LinkPredMetricCollection

from bm3_pyg import BM3, evaluate
from bm3_pyg.errors import ConfigError
from bm3_pyg.eval.metrics import METRICS, measured, metrics_at
from bm3_pyg.eval.users import user_metrics

K = (1, 5, 60)

RANKING = """
import sys
if sys.argv[1] == "blocked":
    sys.modules["torchmetrics"] = None
else:
    import types, torch
    class Metric(torch.nn.Module):
        def add_state(self, name, default, dist_reduce_fx): setattr(self, name, default)
        def double(self): return self
    sys.modules["torchmetrics"] = types.SimpleNamespace(Metric=Metric)
import json, torch
from bm3_pyg import evaluate, load_dataset
from bm3_pyg.models import BPRMF
from bm3_pyg.eval.beyond import beyond_accuracy
from torch_geometric.metrics import link_pred
assert link_pred.WITH_TORCHMETRICS is (sys.argv[1] != "blocked")
torch.manual_seed(0)
data = load_dataset("demo")
ids = torch.rand(50, 1000).argsort(dim=1)[:, :20]
print(json.dumps([evaluate(BPRMF.from_data(data), data), beyond_accuracy(ids, data)]))
"""


def lists() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.rand(30, 80, generator=generator).argsort(dim=1)[:, :50]
    positives = (torch.rand(30, 80, generator=generator) < 0.2).nonzero().T
    return ids, torch.cat([positives, torch.stack([torch.arange(30), torch.full((30,), 81)])], dim=1)


def test_values_are_those_of_the_definitions_in_double_precision() -> None:
    ids, positives = lists()
    values = measured(metrics_at(K), ids, positives)
    for user in range(30):
        own = set(positives[1][positives[0] == user].tolist())
        hits = np.array([item in own for item in ids[user].tolist()] + [False] * 10, dtype=np.float64)
        for k in K:
            top, place = hits[:k], np.arange(1, k + 1)
            expected = {
                "recall": top.sum() / len(own),
                "precision": top.sum() / k,
                "hitrate": top.max(),
                "mrr": (top / place).max(),
                "map": (top * top.cumsum() / place).sum() / min(k, len(own)),
                "ndcg": (top / np.log2(place + 1)).sum() / (1 / np.log2(place + 1))[: len(own)].sum(),
            }
            for name, value in expected.items():
                assert float(values[f"{name}@{k}"][user]) == pytest.approx(value, rel=1e-13), name


def test_means_are_those_of_pyg() -> None:
    ids, positives = lists()
    collection = LinkPredMetricCollection({f"{name}@{k}": metric(k=k) for k in K for name, metric in METRICS.items()})
    collection.update(ids, positives)
    ours = {name: float(value.mean()) for name, value in measured(metrics_at(K), ids, positives).items()}
    assert ours == pytest.approx({name: float(value) for name, value in collection.compute().items()}, rel=1e-5)


def test_users_means_are_those_of_the_evaluation(random_data: Any) -> None:
    torch.manual_seed(0)
    data = random_data(60, 40, 0.3, seed=2)
    model = BM3.from_data(data, embedding_dim=8)
    table, whole = user_metrics(model, data), evaluate(model, data, k=(10, 20))
    for name in ("recall@10", "recall@20", "ndcg@10", "ndcg@20"):
        assert float(np.mean(table[name].to_numpy())) == pytest.approx(whole[name], rel=1e-12)


def test_figures_do_not_depend_on_torchmetrics() -> None:
    printed = [
        subprocess.run([sys.executable, "-c", RANKING, how], check=True, capture_output=True, text=True).stdout
        for how in ("blocked", "there")
    ]
    assert json.loads(printed[0]) == json.loads(printed[1])


@pytest.mark.parametrize("k", [(), 20, (0,), (10, 2.5), (10**11,), (True,)])
def test_a_cutoff_that_is_none_is_refused(k: object) -> None:
    with pytest.raises(ConfigError, match=r"^k: got"):
        metrics_at(k)  # type: ignore[arg-type]
