"""The training step as a GPU runs it: shapes that depend on the batch size alone, and no wait for the device.

The losses are tested on any machine; what needs Triton's kernels on a GPU, or in the interpreter with
TRITON_INTERPRET=1.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bm3_pyg import BM3, build_optimizer
from bm3_pyg.nn.objective import Batch, BootstrapObjective
from bm3_pyg.ops.csr import first_places
from bm3_pyg.optim import DeferredAdam
from bm3_pyg.optim.row_table import RowTable

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RUNS_TRITON = importlib.util.find_spec("triton") is not None and (
    DEVICE == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
)
needs_triton = pytest.mark.skipif(not RUNS_TRITON, reason="needs triton with a GPU or TRITON_INTERPRET=1")
USERS, ITEMS, DIM, SIZES = 20, 15, 4, {"image": 7, "text": 3}


# A dispatch mode sees whatever reads a value, or makes a shape of values, however it is spelled.
class NoWaiting(TorchDispatchMode):
    READS = ("_local_scalar_dense", "item", "is_nonzero", "equal")
    COUNTS = ("nonzero", "nonzero_numpy", "argwhere", "masked_select", "bincount", "histc")
    UNIQUE = ("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        by_mask = name.startswith(("index", "_index")) and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in (args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ())
        )
        repeats = name == "repeat_interleave" and kwargs.get("output_size") is None
        if name in (*self.READS, *self.COUNTS, *self.UNIQUE) or by_mask or repeats:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **kwargs)


@contextmanager
def nothing_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On a GPU CUDA watches too; elsewhere copies to the CPU cannot be seen by their operator, but by their name."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a copy to the CPU waits for the device")

    before = torch.cuda.get_sync_debug_mode() if DEVICE == "cuda" else 0
    with monkeypatch.context() as patch, NoWaiting():  # type: ignore[no-untyped-call]
        for name in ("cpu", "numpy", "tolist"):
            patch.setattr(Tensor, name, refuse)
        try:
            if DEVICE == "cuda":
                torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            if DEVICE == "cuda":
                torch.cuda.set_sync_debug_mode(before)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool(x.any()),
        lambda x: int(x.max()),
        lambda x: x.unique(),
        lambda x: x.nonzero(),
        lambda x: x[x > 1],
        lambda x: x.masked_fill_(x > 1, 0)[x == 0],
        lambda x: torch.where(x > 1),
        lambda x: torch.bincount(x),
        lambda x: torch.equal(x, x),
        lambda x: torch.repeat_interleave(x),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
    ],
)
def test_waits_are_seen(wait: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([1, 3, 0], device=DEVICE)
    with nothing_waits(monkeypatch), pytest.raises((AssertionError, RuntimeError)):
        wait(x)


# The losses ---------------------------------------------------------------------------------------------------------


def batch(seed: int, size: int = 24) -> tuple[Tensor, Tensor]:
    """Most users and items stand there more than once."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.randint(USERS // 2, (size,), generator=generator)
    return users.to(DEVICE), torch.randint(ITEMS // 2, (size,), generator=generator).to(DEVICE)


def keep_masks(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = {"user": USERS, "item": ITEMS} | dict.fromkeys(SIZES, ITEMS)
    return {name: (torch.rand(n, DIM, generator=generator) >= 0.5).to(DEVICE) for name, n in rows.items()}


def embeddings() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def rows(n: int) -> Tensor:
        return torch.randn(n, DIM, generator=generator, dtype=torch.float64).to(DEVICE).requires_grad_()

    return rows(USERS), rows(ITEMS), {name: rows(ITEMS) for name in SIZES}


def kernels() -> list[Any]:
    return ["torch", pytest.param("triton", marks=needs_triton)]


def batches_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, yes: bool = True) -> None:
    monkeypatch.setattr(Batch, "of", Batch.as_given if yes else distinct)


def distinct(users: Tensor, items: Tensor) -> Batch:
    (of_users, user_of), (of_items, item_of) = (ids.unique(return_inverse=True) for ids in (users, items))
    return Batch(of_users, of_items, user_of, item_of)


@pytest.mark.parametrize("kernel", kernels())
def test_losses_and_gradients_are_those_of_distinct_nodes(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_KERNELS", kernel)
    objective = BootstrapObjective(DIM, tuple(SIZES)).to(DEVICE, torch.float64)
    results = []
    for as_on_a_gpu in (True, False):
        batches_as_on_a_gpu(monkeypatch, as_on_a_gpu)
        users, items, latents = embeddings()
        losses = objective(users, items, latents, *batch(1), masks=keep_masks(2))
        inputs = [users, items, *latents.values(), *objective.parameters()]
        results.append((torch.stack(losses), torch.autograd.grad(losses.total, inputs)))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)


def test_one_mask_a_node_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The masks drawn, read at each node's first place, are all that the losses depend on."""
    batches_as_on_a_gpu(monkeypatch)
    objective = BootstrapObjective(DIM, tuple(SIZES)).to(DEVICE, torch.float64)
    tables, (users, items) = embeddings(), batch(3)
    drawn: list[Tensor] = []

    def record(rows: Tensor, rate: float, generator: object) -> Tensor:
        drawn.append(torch.rand_like(rows))
        return rows.detach() * (drawn[-1] >= rate) / (1 - rate)

    with monkeypatch.context() as patch:
        patch.setattr("bm3_pyg.nn.objective.dropout", record)
        losses = objective(*tables, users, items)
    masks = keep_masks(0)
    for (name, mask), draw in zip(masks.items(), drawn[0].split(len(users)), strict=True):
        ids = users if name == "user" else items
        mask[ids] = draw[first_places(ids)] >= 0.5
    torch.testing.assert_close(losses, objective(*tables, users, items, masks=masks))


@pytest.mark.parametrize("kernel", kernels())
def test_losses_do_not_wait(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_KERNELS", kernel)
    batches_as_on_a_gpu(monkeypatch)
    objective = BootstrapObjective(DIM, tuple(SIZES)).to(DEVICE, torch.float64)
    tables, pairs = embeddings(), batch(1)
    objective(*tables, *pairs).total.backward()
    with nothing_waits(monkeypatch):
        objective(*tables, *pairs).total.backward()


# The whole step -----------------------------------------------------------------------------------------------------


def model(dtype: torch.dtype = torch.float64) -> BM3:
    torch.manual_seed(0)
    edge_index = torch.stack([torch.randint(USERS, (60,)), torch.randint(ITEMS, (60,))])
    features = {name: torch.randn(ITEMS, size) for name, size in SIZES.items()}
    return BM3(USERS, ITEMS, edge_index, modalities=features, embedding_dim=DIM, num_layers=2).to(DEVICE, dtype)


@needs_triton
def test_training_is_that_of_dense_adam_over_distinct_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, twin = model(), model()
    optimizer, adam = build_optimizer(ours), torch.optim.Adam(twin.parameters(), lr=1e-3)
    assert isinstance(optimizer, DeferredAdam)
    for step in range(8):
        users, items = batch(step)
        for trained, by, kernel in ((ours, optimizer, "triton"), (twin, adam, "torch")):
            monkeypatch.setenv("BM3_KERNELS", kernel)
            batches_as_on_a_gpu(monkeypatch, trained is ours)
            trained.loss(users, items, masks=keep_masks(step)).total.backward()
            by.step()
            by.zero_grad()
    monkeypatch.setenv("BM3_KERNELS", "triton")
    expected = twin.state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-11, msg=name)


@needs_triton
def test_training_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_KERNELS", "triton")
    batches_as_on_a_gpu(monkeypatch)
    trained = model(torch.float32)
    optimizer = build_optimizer(trained)

    def step(seed: int) -> None:
        pairs = batches[seed]
        trained.loss(*pairs).total.backward()
        optimizer.step()
        optimizer.zero_grad()

    batches = [batch(seed) for seed in range(4)]
    for seed in (0, 1):  # what is prepared once may wait
        step(seed)
    with nothing_waits(monkeypatch):
        for seed in (2, 3):
            step(seed)


@needs_triton
@pytest.mark.parametrize("gathered", [False, True])
def test_repeated_rows_sums_of_gradients_and_clipping(gathered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row twice in a batch, two backward passes to a step, a clipped norm, and a table that nobody reads."""
    monkeypatch.setenv("BM3_KERNELS", "triton")
    generator = torch.Generator().manual_seed(0)
    origin = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    linear = nn.Linear(5, DIM, dtype=torch.float64).to(DEVICE)
    table, idle, dense = (RowTable(origin.clone()).to(DEVICE) for _ in range(3))
    optimizer = DeferredAdam([table.stored, idle.stored], [table, idle])
    adam = torch.optim.Adam([dense.stored])

    def loss(of: RowTable, rows: Tensor) -> Tensor:
        read = of.gather(rows) if gathered else of.project(rows, linear)
        return (read.square() * torch.arange(len(rows), device=DEVICE)[:, None]).sum()

    for _ in range(5):
        drawn = [torch.randint(7, (6,), generator=generator).to(DEVICE) for _ in range(2)]
        for rows in drawn:
            for of in (table, dense):
                loss(of, rows).backward()
        norms = optimizer.clip_grad_norm_(1.0), torch.nn.utils.clip_grad_norm_([dense.stored], 1.0)
        torch.testing.assert_close(*norms)
        for by in (optimizer, adam):
            by.step()
            by.zero_grad(set_to_none=False)
    torch.testing.assert_close(table.weight, dense.weight, rtol=0, atol=1e-12)
    assert torch.equal(idle.weight.cpu(), origin)
