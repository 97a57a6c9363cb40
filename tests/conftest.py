from __future__ import annotations

import io
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg import errors, waiting
from bm3_pyg.study import content

SHARED = Path(os.environ.get("BM3_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or leaves anything in the user's cache, and what is said once a process is said in each test."""
    errors._said.clear()
    monkeypatch.setattr(waiting, "SECONDS", 3600.0)  # what a command says does not depend on the machine
    monkeypatch.setenv("BM3_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Folder of a real dataset ("baby", "tiktok"); the test is skipped where it is not at hand."""

    def folder(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"no {name} in {SHARED} (set BM3_SHARED_DATA)")
        return SHARED / name

    return folder


@pytest.fixture
def small_files() -> Callable[[int], AbstractContextManager[None]]:
    """``small_files(n)``: in its context no file can grow beyond n bytes, as on a disk that is full."""

    @contextmanager
    def bounded(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return bounded


@pytest.fixture
def sound_parquet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process tries a Parquet file first, for tests whose files cannot end this one."""
    monkeypatch.setattr("bm3_pyg.data.table.parse_parquet", lambda raw: pl.read_parquet(io.BytesIO(raw)))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A small folder in MMRec's layout: 12 users, 8 items, one modality."""
    folder = tmp_path / "shop"
    folder.mkdir()
    rows = [f"{u}\t{(u + j) % 8}\t{0 if j < 4 else j - 3}" for u in range(12) for j in range(6)]
    (folder / "shop.inter").write_text("userID\titemID\tx_label\n" + "\n".join(rows) + "\n")
    np.save(folder / "image_feat.npy", np.random.default_rng(0).standard_normal((8, 5), dtype=np.float32))
    return folder


@pytest.fixture
def made_report() -> content.Report:
    """A report made by hand: all there can be on one dataset, next to nothing on another, labels that mean mischief."""
    return content.Report("BM3 & <others>", (_full_section(), _bare_section()), ("the runs are on 2 datasets",))


HOSTILE = ("<script>alert(1)</script>", "a_b&c% $x$ #1 | {y}", "_hidden")


def _spread(*values: float) -> content.Spread:
    mean = sum(values) / len(values)
    deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else None
    return content.Spread(mean, deviation, values)


def _row(label: str, base: float, **marks: tuple[str, ...]) -> content.Row:
    test = {
        f"{name}@{k}": _spread(base * k / 20, base * k / 20 + 0.002)
        for k in (10, 20, 50)
        for name in ("recall", "ndcg")
    }
    return content.Row(
        label, "bm3", "num_layers=2", (0, 1), test, {"recall@20": _spread(base)}, **marks,
        epochs=(3, 2), train_seconds=12.5 + 1000 * base, epoch_seconds=0.5, eval_seconds=None, memory_mb=1234.5,
    )  # fmt: skip


def _full_section() -> content.Section:
    best, close, far = HOSTILE
    first = content.Comparison("recall@20", best, close, 100, 0.001, -0.001, 0.003, 0.3, 0.3, 0.1, seeds_p=0.5)
    second = content.Comparison("recall@20", best, far, 100, 0.05, 0.04, 0.06, 1e-9, 2e-9, None)
    losses: dict[str, tuple[float, ...]] = {"total": (3.0, 2.0, 1.5), "alignment": (0.0, 0.0, 0.0)}
    losses["masking"] = (1.0, 0.5, 0.4)
    return content.Section(
        dataset={
            "name": "shop",
            "users": 1200,
            "items": 34,
            "interactions": 5000,
            "sparsity": 0.9,
            "splits": {"train": 4000, "val": 500, "test": 500},
            "split_users": {"train": 1200, "val": 500, "test": 500},
            "split_items": {"train": 34, "val": 30, "test": 30},
            "duplicates": {"train": 0, "val": 0, "test": 0},
            "leaks": {"train-val": 2},
            "users_without_training": 0,
            "cold_items": 1,
            "degrees": {"user": {"min": 0, "median": 2.0, "mean": 6.4, "max": 603}},
            "time": {"train": (1_300_000_000, 1_350_000_000)},
            "modalities": {"image": {"dim": 4096, "missing": 3}},
            "files": {"shop.inter": "0" * 64},
            "fingerprint": "f" * 64,
            "notes": ["3 images are missing"],
        },
        protocol=("Full ranking (mask=train).",),
        rows=(
            _row(close, 0.09, within_noise=("recall@20",)),
            _row(best, 0.1, best=("recall@10", "recall@20", "ndcg@10", "ndcg@20")),
            _row(far, 0.05),
        ),
        published=(content.Published("an <article>", {"recall@20": 0.088}, "its headings are swapped"),),
        comparisons=(first, second),
        beyond={best: {"coverage@20": 0.5, "average_popularity@20": 100.25}},
        strata=(
            content.Stratum("user activity", "1-4 training interactions", 80, "recall@20", {best: 0.1, far: 0.04}),
            content.Stratum("user activity", "5+ training interactions", 20, "recall@20", {best: 0.2, far: 0.1}),
            content.Stratum("cold", "0 training interactions", 9, "hit@20", {best: 0.0, far: 0.0}),
        ),
        ablations=(
            content.Ablation("without <image>", first, "without <image>: nothing to see.", (0, 1)),
            content.Ablation("masking off", second, "masking off: lower.", (0, 1), {"recall@20": _spread(0.05, 0.06)}),
        ),
        ablation_words="These runs do not show that the features help.",
        curves=(
            content.Curve(best, 0, (1, 2, 3), (0.05, 0.08, 0.1), 3, losses),
            content.Curve(best, 1, (1, 2, 3), (0.04, 0.09, 0.08), 2, losses),
            content.Curve(far, 0, (2,), (0.05,), 2, {"total": (2.0, -1.0)}),
        ),
        searches=("bm3: 2 settings x 2 seeds",),
        search_rows=(
            {"setting": "bm3 num_layers=2", "seeds": [0, 1], "val": _spread(0.1, 0.11), "selected": True},
            {"setting": "bm3 num_layers=1", "seeds": [], "val": None, "selected": False},
        ),
        environment={"python": "3.11", "commit": ["abc", "def"], "packages": {"torch": "2.6"}},
        commands=("bm3 train shop --set 'x=<y>' --seed 0", "bm3 train shop --seed 1"),
        warnings=("no seed 2 of <b>far</b>",),
    )


def _bare_section() -> content.Section:
    row = content.Row("BM3", "bm3", "", (0,), {"recall@20": _spread(0.1)}, {})
    return content.Section({"name": "other", "modalities": {"text": {"dim": 4}}}, (), (row,))


class Fixed:
    """A recommender with given scores [U, I]."""

    def __init__(self, scores: torch.Tensor) -> None:
        self.scores = scores

    def scorer(self):  # type: ignore[no-untyped-def]
        return lambda users: self.scores[users].clone()


@pytest.fixture
def fixed() -> type[Fixed]:
    return Fixed


@pytest.fixture
def random_data():  # type: ignore[no-untyped-def]
    """Builds data with users without positives, without training interactions, and with repeated edges."""

    def build(num_users: int, num_items: int, density: float, seed: int) -> HeteroData:
        generator = torch.Generator().manual_seed(seed)
        split = torch.rand(num_users, num_items, generator=generator)
        split[0] = 1.0
        data = HeteroData()
        data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
        bounds = {"edge_index": (0.0, density), "val_edge_index": (density, 1.3 * density)}
        bounds["test_edge_index"] = (1.3 * density, 1.6 * density)
        for name, (low, high) in bounds.items():
            edges = ((split >= low) & (split < high)).nonzero().T
            edges = edges[:, torch.randperm(edges.size(1), generator=generator)]
            data["user", "rates", "item"][name] = torch.cat([edges, edges[:, :2]], dim=1)
        return data

    return build


@pytest.fixture
def make_data():  # type: ignore[no-untyped-def]
    """Builds data with all three splits and a modality of each name, as wide as is said."""

    def build(num_users: int, num_items: int, **widths: int) -> HeteroData:
        generator = torch.Generator().manual_seed(0)
        split = torch.rand(num_users, num_items, generator=generator)
        data = HeteroData()
        data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
        for name, width in widths.items():
            data["item"][name] = torch.randn(num_items, width, generator=generator)
        for name, low, high in (("edge_index", 0, 0.2), ("val_edge_index", 0.2, 0.3), ("test_edge_index", 0.3, 0.4)):
            data["user", "rates", "item"][name] = ((split >= low) & (split < high)).nonzero().T.contiguous()
        return data

    return build


@pytest.fixture
def small_data(make_data: Callable[..., HeteroData]) -> HeteroData:
    """60 users, 40 items, all three splits, one modality."""
    return make_data(60, 40, image=16)


@pytest.fixture
def some_data(make_data: Callable[..., HeteroData]) -> HeteroData:
    """70 users, 50 items, all three splits, two modalities."""
    return make_data(70, 50, image=12, text=6)
