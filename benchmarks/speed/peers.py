"""LightGCN and BPR on real data, ours and those of well-kept libraries: seconds, and quality by one evaluator.

    pip install implicit==0.7.3 cornac==3.0.1 dgl==1.1.3      # dgl for cornac's LightGCN; what is absent is left out
    export OMP_NUM_THREADS=1
    python benchmarks/speed/peers.py data/baby --part quality --json peers.json
    python benchmarks/speed/peers.py data/baby --part time --json peers.json
    python benchmarks/speed/peers.py --table peers.json

``quality``: every setting in SIDES with the first seed, then the one of the highest validation Recall@20 with the
others. Each run stops when validation has not risen for PATIENCE evaluations, and is tested at its best epoch.
``time``: epochs at equal settings, the sides in turn. Runs that stand in the JSON file are not repeated. README.md
beside this file has the method and the results.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import bm3_pyg  # isort: skip  # before torch, for the wait policy it sets
import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of

Settings = dict[str, float]
Embeddings = tuple[Tensor, Tensor]
AfterEpoch = Callable[[Callable[[], Embeddings]], None]
"""Called after each epoch with what embeds users and items, [U, D] and [I, D]; raises :class:`Enough` to end it all."""

DIM, LAYERS = 64, 3
PATIENCE = 10
MAX_EPOCHS = 1000
METRICS = ("recall@20", "ndcg@20")
ROUNDS = 3


class Enough(Exception):
    """No further epoch is wanted."""


@dataclass(frozen=True)
class Side:
    """A library's model: how it is trained, epoch by epoch, what it needs, and what is tried on validation."""

    train: Callable[[HeteroData, Settings, int, AfterEpoch], None]
    every: int  # epochs between two evaluations
    grid: dict[str, tuple[float, ...]]
    timed: Settings
    needs: tuple[str, ...] = ()

    def settings(self) -> list[Settings]:
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]

    def absent(self) -> list[str]:
        return [requirement for requirement in self.needs if _version(requirement.partition("==")[0]) is None]


@dataclass
class Run:
    """What one training gave; seconds are of its epochs alone, without evaluations."""

    side: str
    settings: Settings
    seed: int
    every: int = 0  # epochs between two evaluations, 0 for none
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    best_epoch: int = 0
    val: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)


class Embedded:
    """A recommender that scores by dot products of given embeddings."""

    def __init__(self, embeddings: Embeddings) -> None:
        self.users, self.items = embeddings

    def scorer(self) -> Callable[[Tensor], Tensor]:
        return lambda users: self.users[users] @ self.items.T


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    if args.table:
        print(table([Run(**run) for run in json.loads(Path(args.table).read_text())["runs"]]))
        return 0
    try:
        data = bm3_pyg.load_dataset(args.folder)
        sides = present(args.sides)
        report = Report(args.json)
    except (bm3_pyg.BM3Error, ValueError) as error:
        print(f"peers.py: {error}", file=sys.stderr)
        return 2
    if args.part in ("quality", "all"):
        quality(data, sides, range(args.seeds), report)
    if args.part in ("time", "all"):
        seconds(data, sides, report)
    print(table(report.runs))
    return 0


def present(names: Iterable[str]) -> dict[str, Side]:
    """The sides of these names whose packages are installed; a line for each that is left out.

    Raises:
        ValueError: none is left but ours.
    """
    chosen = {name: SIDES[name] for name in names}
    for name, side in chosen.items():
        if side.absent():
            print(f"{name}: left out, it needs: pip install {' '.join(side.absent())}", file=sys.stderr)
    left = {name: side for name, side in chosen.items() if not side.absent()}
    if not left:
        raise ValueError("no side is left, expected a library that is installed")
    return left


def quality(data: HeteroData, sides: dict[str, Side], seeds: Iterable[int], report: Report) -> None:
    """Train every side with each of its settings, and with its best with all seeds."""
    first, *others = seeds
    for name, side in sides.items():
        if not side.grid:
            continue
        tried = [report.run(name, settings, first, side.every, data, side) for settings in side.settings()]
        best = max(tried, key=lambda run: run.val[METRICS[0]])
        for seed in others:
            report.run(name, best.settings, seed, side.every, data, side)


def seconds(data: HeteroData, sides: dict[str, Side], report: Report) -> None:
    """Epochs of every side at its ``timed`` settings, in turn, ROUNDS times."""
    for round_, (name, side) in product(range(ROUNDS), sides.items()):
        report.run(name, side.timed, round_, 0, data, side)


def train(data: HeteroData, name: str, side: Side, settings: Settings, seed: int, every: int) -> Run:
    """One run: until validation does not rise any more, or two epochs if it is not to be evaluated (``every=0``)."""
    run = Run(name, settings, seed, every)
    best: Embeddings | None = None
    marks = time.perf_counter(), time.process_time()

    def after_epoch(embed: Callable[[], Embeddings]) -> None:
        nonlocal best, marks
        run.wall.append(time.perf_counter() - marks[0])
        run.cpu.append(time.process_time() - marks[1])
        epoch = len(run.wall)
        if every and epoch % every == 0:
            with torch.no_grad():
                now: Embeddings = tuple(part.detach().clone() for part in embed())  # type: ignore[assignment]
            val = evaluated(now, data, "val")
            if not run.val or val[METRICS[0]] > run.val[METRICS[0]]:
                best, run.val, run.best_epoch = now, val, epoch
            if epoch - run.best_epoch >= PATIENCE * every:
                raise Enough
        if epoch >= (MAX_EPOCHS if every else 2):
            raise Enough
        marks = time.perf_counter(), time.process_time()

    with suppress(Enough):
        side.train(data, settings, seed, after_epoch)
    if best is not None:
        run.test = evaluated(best, data, "test")
    return run


def evaluated(embeddings: Embeddings, data: HeteroData, split: str) -> dict[str, float]:
    metrics = bm3_pyg.evaluate(Embedded(embeddings), data, split, k=(20,))
    return {name: metrics[name] for name in METRICS}


class Report:
    """The runs so far, in a JSON file if there is one."""

    def __init__(self, file: str | None) -> None:
        self.file = Path(file) if file else None
        found = json.loads(self.file.read_text())["runs"] if self.file and self.file.exists() else []
        self.runs = [Run(**run) for run in found]

    def run(self, name: str, settings: Settings, seed: int, every: int, data: HeteroData, side: Side) -> Run:
        """The run of this setting and seed, trained unless it is there."""
        for run in self.runs:
            if (run.side, run.settings, run.seed, run.every) == (name, settings, seed, every):
                return run
        run = train(data, name, side, settings, seed, every)
        self.runs.append(run)
        words = f"epoch {run.best_epoch} of {len(run.wall)}, val {run.val.get(METRICS[0], 0):.4f}"
        print(f"{name} {settings} seed {seed}: {words}, {median(run.cpu):.3f} CPU s an epoch", flush=True)
        if self.file:
            packages = ("bm3-pyg", "torch", "torch-geometric", "numpy", *sorted(_packages()))
            about = {"threads": torch.get_num_threads(), "versions": {name: _version(name) for name in packages}}
            self.file.write_text(json.dumps({"about": about, "runs": [asdict(run) for run in self.runs]}, indent=1))
        return run


def table(runs: list[Run]) -> str:
    """A row a side: its selected setting's quality, and seconds."""
    rows = [
        "| | settings | seeds | best epoch | val R@20 | test R@20 | test N@20 | CPU s to best | CPU s an epoch |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(run.side for run in runs):
        measured = [run for run in runs if run.side == name and run.val]
        timed = [value for run in runs if run.side == name and not run.every for value in run.cpu[1:]]
        cells = ["", "", "", "", "", "", ""]
        if measured:
            most = max(measured, key=lambda run: run.val[METRICS[0]] if run.seed == measured[0].seed else 0)
            chosen = [run for run in measured if run.settings == most.settings]
            cells = [
                " ".join(f"{key}={value:g}" for key, value in most.settings.items()),
                str(len(chosen)),
                _range([run.best_epoch for run in chosen]),
                _spread([run.val[METRICS[0]] for run in chosen]),
                *(_spread([run.test[metric] for run in chosen]) for metric in METRICS),
                f"{mean(sum(run.cpu[: run.best_epoch]) for run in chosen):.0f}",
            ]
        rows.append(f"| {' | '.join([name, *cells, f'{median(timed):.3f}' if timed else ''])} |")
    return "\n".join(rows)


def ours(model_name: str) -> Callable[[HeteroData, Settings, int, AfterEpoch], None]:
    def train(data: HeteroData, settings: Settings, seed: int, after_epoch: AfterEpoch) -> None:
        from bm3_pyg.train.settings import build_model, split_settings

        training, options = split_settings([f"{key}={value}" for key, value in settings.items()], model_name)
        model = build_model(data, options, seed, "cpu", model_name)
        # No evaluation of its own: the last epoch is never reached.
        config = bm3_pyg.TrainConfig(seed=seed, max_epochs=MAX_EPOCHS + 1, eval_every=MAX_EPOCHS + 1, **training)
        bm3_pyg.fit(model, data, config, callbacks=[lambda record: after_epoch(model.embed)], verbose=False)

    return train


def implicit_bpr(data: HeteroData, settings: Settings, seed: int, after_epoch: AfterEpoch) -> None:
    from implicit.cpu.bpr import BayesianPersonalizedRanking
    from scipy.sparse import csr_matrix

    users, items = edges_of(data, "train").numpy()
    shape = data["user"].num_nodes, data["item"].num_nodes
    matrix = csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=shape)
    threads = torch.get_num_threads()
    model = BayesianPersonalizedRanking(
        DIM, iterations=MAX_EPOCHS + 1, num_threads=threads, random_state=seed, **settings
    )

    def embed() -> Embeddings:  # the last column is the items' bias
        return torch.from_numpy(model.user_factors), torch.from_numpy(model.item_factors)

    model.fit(matrix, show_progress=False, callback=lambda *_: after_epoch(embed))


def cornac_bpr(data: HeteroData, settings: Settings, seed: int, after_epoch: AfterEpoch) -> None:
    from cornac.models import BPR

    dataset = _cornac_dataset(data)
    model = BPR(k=DIM, max_iter=1, seed=seed, **settings)  # a seed means one thread

    def embed() -> Embeddings:
        ones = torch.ones(len(model.u_factors), 1)
        biases = torch.from_numpy(model.i_biases).view(-1, 1)
        users, items = torch.from_numpy(model.u_factors), torch.from_numpy(model.i_factors)
        return torch.cat([users, ones], dim=1), torch.cat([items, biases], dim=1)

    while True:  # a fit goes on from the factors and random numbers of the one before
        model.is_fitted = False
        model.fit(dataset)
        after_epoch(embed)


def cornac_lightgcn(data: HeteroData, settings: Settings, seed: int, after_epoch: AfterEpoch) -> None:
    os.environ.setdefault("DGLBACKEND", "pytorch")
    from cornac.models import LightGCN

    class Watched(LightGCN):  # type: ignore[misc]
        def early_stop(self, *_: Any, **__: Any) -> bool:
            after_epoch(lambda: (torch.from_numpy(self.U), torch.from_numpy(self.V)))
            return False

    options = {**settings, "batch_size": int(settings["batch_size"])}
    Watched(emb_size=DIM, num_layers=LAYERS, num_epochs=MAX_EPOCHS + 1, seed=seed, early_stopping={}, **options).fit(
        _cornac_dataset(data)
    )


def pyg_lightgcn(data: HeteroData, settings: Settings, seed: int, after_epoch: AfterEpoch) -> None:
    """The loop of PyG's example, with the normalised adjacency matrix made once."""
    from torch_geometric.nn import LightGCN
    from torch_geometric.nn.conv.gcn_conv import gcn_norm
    from torch_geometric.utils import to_torch_csr_tensor

    torch.manual_seed(seed)
    users, items = edges_of(data, "train")
    num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
    nodes = num_users + num_items
    edges = torch.stack([torch.cat([users, items + num_users]), torch.cat([items + num_users, users])])
    edges, weights = gcn_norm(edges, num_nodes=nodes, add_self_loops=False)
    adjacency = to_torch_csr_tensor(edges, weights, size=(nodes, nodes))
    model = LightGCN(nodes, DIM, LAYERS, normalize=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["lr"])
    while True:
        for batch in torch.randperm(len(users)).split(int(settings["batch_size"])):
            positives = items[batch] + num_users
            negatives = torch.randint(num_users, nodes, (len(batch),))
            pairs = torch.stack([users[batch].repeat(2), torch.cat([positives, negatives])])
            positive, negative = model(adjacency, pairs).chunk(2)
            touched = torch.cat([users[batch], positives, negatives])
            loss = model.recommendation_loss(positive, negative, touched, lambda_reg=settings["reg_weight"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        after_epoch(lambda: model.get_embedding(adjacency).split([num_users, num_items]))


def _cornac_dataset(data: HeteroData) -> Any:
    """The training interactions under the same ids."""
    from cornac.data import Dataset

    users, items = edges_of(data, "train").numpy()
    sizes = data["user"].num_nodes, data["item"].num_nodes
    maps = [{index: index for index in range(size)} for size in sizes]
    triples = users.astype(np.int32), items.astype(np.int32), np.ones(len(users), dtype=np.float32)
    return Dataset(*sizes, *maps, triples, seed=0)


_SGD = {"learning_rate": (0.01, 0.1), "regularization": (0.003, 0.03, 0.1)}
_GCN = {"lr": 2e-3, "batch_size": 8192, "reg_weight": 1e-4}
SIDES = {
    "bm3_pyg BPR": Side(
        ours("bprmf"), 2, {"lr": (0.001, 0.003), "reg_weight": (1e-3, 1e-2, 1e-1)}, {"batch_size": 2048}
    ),
    "implicit BPR": Side(implicit_bpr, 10, _SGD, {"learning_rate": 0.01, "regularization": 0.01}, ("implicit==0.7.3",)),
    "cornac BPR": Side(
        cornac_bpr,
        10,
        {"learning_rate": _SGD["learning_rate"], "lambda_reg": _SGD["regularization"]},
        {"learning_rate": 0.01, "lambda_reg": 0.01},
        ("cornac==3.0.1",),
    ),
    "bm3_pyg LightGCN": Side(ours("lightgcn"), 4, {"lr": (0.002, 0.005), "batch_size": (8192,)}, _GCN),
    "PyG LightGCN": Side(pyg_lightgcn, 4, {}, _GCN),
    "cornac LightGCN": Side(
        cornac_lightgcn,
        4,
        {"learning_rate": (0.002, 0.005), "batch_size": (8192,)},
        {"learning_rate": 2e-3, "batch_size": 8192},
        ("cornac==3.0.1", "dgl==1.1.3"),
    ),
}


def _packages() -> set[str]:
    return {requirement.partition("==")[0] for side in SIDES.values() for requirement in side.needs}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _range(values: list[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)}-{max(values)}"


def _spread(values: list[float]) -> str:
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="data/baby", help="a dataset, as bm3 train takes it")
    parser.add_argument("--part", choices=("quality", "time", "all"), default="all")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES), metavar="SIDE")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 (default: 3)")
    parser.add_argument("--json", help="file of the runs, gone on with if it is there")
    parser.add_argument("--table", metavar="FILE", help="only print the table of such a file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
