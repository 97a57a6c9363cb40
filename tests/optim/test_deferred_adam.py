from __future__ import annotations

import contextlib
import copy
import io
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bm3_pyg.errors import ConfigError
from bm3_pyg.optim import DeferredAdam, build_optimizer
from bm3_pyg.optim.row_gradient import RowGradient
from bm3_pyg.optim.row_table import RowTable

N, WIDTH, DIM = 40, 12, 4


@pytest.fixture(params=["numba", "torch"], autouse=True)
def _backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything below holds for both kinds of kernels."""
    monkeypatch.setenv("BM3_KERNELS", request.param)


class Small(nn.Module):
    """A table, its projection and a dense id table, with a loss that uses all three."""

    def __init__(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = RowTable(torch.randn(N, WIDTH, generator=generator, dtype=torch.float64).to(dtype))
        self.linear = nn.Linear(WIDTH, DIM, dtype=dtype)
        self.ids = nn.Parameter(torch.randn(N, DIM, generator=generator, dtype=torch.float64).to(dtype))
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(DIM, WIDTH, generator=generator, dtype=torch.float64))
            self.linear.bias.zero_()

    def loss(self, rows: Tensor) -> Tensor:
        return (self.table.project(rows, self.linear) - self.ids[rows]).square().sum() / 10


def batches(steps: int, size: int = 3, seed: int = 0) -> Iterator[Tensor]:
    """Distinct rows per step, low ones often and high ones seldom; the last rows never."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        skewed = (torch.rand(size, generator=generator) ** 3 * (N - 5)).long()
        yield skewed.unique()


def train(model: Small, optimizer: torch.optim.Optimizer, rows: Iterator[Tensor]) -> list[float]:
    losses = []
    for batch in rows:
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def twins(dtype: torch.dtype = torch.float64) -> tuple[Small, DeferredAdam, Small, torch.optim.Adam]:
    """The same model twice: with DeferredAdam, and with dense Adam on plain autograd."""
    model, twin = Small(dtype), Small(dtype)
    optimizer = build_optimizer(model)
    assert isinstance(optimizer, DeferredAdam)
    return model, optimizer, twin, torch.optim.Adam(twin.parameters(), lr=1e-3)


def assert_same(model: nn.Module, twin: nn.Module, tolerance: float = 1e-12) -> None:
    expected = twin.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=tolerance, msg=name)


# Exactness --------------------------------------------------------------------------------------------------------


def test_loss_curve_is_dense_adams() -> None:
    model, optimizer, twin, dense = twins(torch.float32)
    curve, expected = train(model, optimizer, batches(300, 6)), train(twin, dense, batches(300, 6))
    torch.testing.assert_close(torch.tensor(curve), torch.tensor(expected), rtol=1e-5, atol=1e-6)
    model64, optimizer64, twin64, dense64 = twins()
    train(model64, optimizer64, batches(300, 6))
    train(twin64, dense64, batches(300, 6))
    assert_same(model64, twin64)


def test_never_touched_rows_do_not_move() -> None:
    model, optimizer, _, _ = twins()
    before = model.table.state_dict()["weight"].clone()
    train(model, optimizer, batches(50))
    untouched = torch.arange(N - 5, N)
    assert torch.equal(model.table.gather(untouched), before[untouched])
    model.table.flush()
    assert torch.equal(model.table.stored[untouched], before[untouched])
    assert not torch.equal(model.table.stored, before)


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.5, 0.9), (0.0, 0.999), (0.99, 0.9999), (0.9, 0.95)])
@pytest.mark.parametrize("eps", [1e-8, 1e-3, 1e-15])
def test_other_settings(betas: tuple[float, float], eps: float) -> None:
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-4)):
        model, twin = Small(dtype), Small(dtype)
        train(model, DeferredAdam(model.parameters(), [model.table], betas=betas, eps=eps), batches(70))
        train(twin, torch.optim.Adam(twin.parameters(), betas=betas, eps=eps), batches(70))
        assert_same(model, twin, tolerance)


# Gradients --------------------------------------------------------------------------------------------------------


def test_gradient_stays_factored_and_equals_autograds() -> None:
    model, _, twin, _ = twins()
    for rows in (torch.tensor([1, 5, 7]), torch.tensor([5, 2, 0])):
        for each in (model, twin):
            each.loss(rows).backward()
    gradient = model.table.stored.grad
    assert isinstance(gradient, RowGradient)
    torch.testing.assert_close(gradient.to_dense(), twin.table.stored.grad)
    torch.testing.assert_close(model.linear.weight.grad, twin.linear.weight.grad)
    torch.testing.assert_close(gradient + 0.0, twin.table.stored.grad)
    assert "rows=[3, 3]" in repr(gradient)
    with pytest.raises(NotImplementedError, match="row gradient"):
        gradient.sqrt_()
    with pytest.raises(NotImplementedError, match="row gradient"):
        torch._foreach_sqrt_([gradient, torch.ones(1)])
    torch._foreach_mul_([gradient, torch.ones(1)], 2.0)
    expected = twin.table.stored.grad
    assert expected is not None
    torch.testing.assert_close(torch.stack([gradient, gradient])[1], 2 * expected)


MIXED: dict[str, Callable[[Small], Tensor]] = {
    "no rows": lambda m: m.loss(torch.empty(0, dtype=torch.int64)),
    "one row": lambda m: m.loss(torch.tensor([3])),
    "unsorted": lambda m: m.loss(torch.tensor([9, 3, 30])),
    "repeated in project": lambda m: m.loss(torch.tensor([9, 3, 9, 9])),
    "repeated in gather": lambda m: m.table.gather(torch.tensor([4, 4, 1, 4])).square().sum(),
    "gather and project": lambda m: m.loss(torch.tensor([1, 2, 3])) + m.table.gather(torch.tensor([0, 3])).sum(),
    "int32": lambda m: m.loss(torch.tensor([1, 2], dtype=torch.int32)),
    "dense": lambda m: m.table.weight.square().sum() / 100,
    "dense and rows": lambda m: m.table.weight.square().sum() / 100 + m.loss(torch.tensor([1, 2])),
    "rows, then dense": lambda m: m.loss(torch.tensor([1, 2])) if m.ids.grad is None else m.table.weight.square().sum(),
    "no table": lambda m: m.ids.square().sum(),
    "scaled": lambda m: 1e-6 * m.loss(torch.tensor([1, 2])),
}


@pytest.mark.parametrize("kind", MIXED)
@pytest.mark.parametrize(("accumulate", "clip"), [(1, None), (1, 0.05), (3, 0.05)])
def test_every_kind_of_gradient(kind: str, accumulate: int, clip: float | None) -> None:
    model, optimizer, twin, dense = twins()
    for batch in batches(8):
        for each, opt in ((model, optimizer), (twin, dense)):
            opt.zero_grad()
            for _ in range(accumulate):
                MIXED[kind](each).backward()
            each.loss(batch).backward()
            if clip is not None and each is twin:
                expected = nn.utils.clip_grad_norm_(each.parameters(), clip)
            elif clip is not None:
                norm = optimizer.clip_grad_norm_(clip)
            opt.step()
        if clip is not None:
            torch.testing.assert_close(norm, expected)
    assert_same(model, twin, 1e-11)


def test_torchs_own_clipping_agrees() -> None:
    model, _, twin, _ = twins()
    for rows in ([1, 2, 3], [3, 4]):
        for each in (model, twin):
            each.loss(torch.tensor(rows)).backward()
    norms = [nn.utils.clip_grad_norm_(each.parameters(), 0.1) for each in (model, twin)]
    torch.testing.assert_close(*norms)
    assert isinstance(model.table.stored.grad, RowGradient)
    torch.testing.assert_close(model.table.stored.grad.to_dense(), twin.table.stored.grad)


def test_clipping_reports_what_is_not_finite() -> None:
    model, optimizer, _, _ = twins()
    assert optimizer.clip_grad_norm_(1.0) == 0
    (model.loss(torch.tensor([1])) * math.inf).backward()
    with pytest.raises(RuntimeError, match="norm"):
        optimizer.clip_grad_norm_(1.0, error_if_nonfinite=True)


def test_the_projection_of_the_forward_pass_counts() -> None:
    """W may change between backward and step; the gradient was dZ times the W of the forward pass."""
    model, optimizer, twin, dense = twins()
    for each, opt in ((model, optimizer), (twin, dense)):
        each.loss(torch.tensor([1, 2])).backward()
        with torch.no_grad():
            each.linear.weight.mul_(3.0)
        opt.step()
    assert_same(model, twin)


def test_weights_changed_between_forward_and_step() -> None:
    model, optimizer, twin, dense = twins()
    for each, opt in ((model, optimizer), (twin, dense)):
        train(each, opt, batches(5))
        opt.zero_grad()
        loss = each.loss(torch.tensor([1, 2]))
        each.load_state_dict(Small(seed=5).state_dict(), strict=True)
        if each is twin:
            loss = each.loss(torch.tensor([1, 2]))  # autograd refuses to go back through what was overwritten
        with pytest.raises(RuntimeError) if each is model else contextlib.nullcontext():
            loss.backward()
        opt.zero_grad()
        each.loss(torch.tensor([1, 2])).backward()
        with torch.no_grad():
            each.table.weight.mul_(0.5)
        opt.step()
    assert_same(model, twin)


def test_steps_without_gradient_and_gradients_without_step() -> None:
    model, optimizer, twin, dense = twins()
    for each, opt in ((model, optimizer), (twin, dense)):
        opt.step()
        each.loss(torch.tensor([1, 2])).backward()
        opt.step()
        opt.step()  # the same gradient again
        opt.zero_grad()
        opt.step()
        each.loss(torch.tensor([2, 3])).backward()
        opt.zero_grad(set_to_none=False)
        opt.step()  # a gradient of zeros is a step
        each.loss(torch.tensor([3, 4])).backward()
        each.zero_grad()
        train(each, opt, batches(5))
    assert_same(model, twin)


def test_sparse_gradients_of_dense_parameters_are_refused() -> None:
    embedding = nn.Embedding(5, 2, sparse=True)
    optimizer = DeferredAdam(embedding.parameters())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ConfigError, match="sparse"):
        optimizer.step()


def test_a_failed_backward_leaves_no_trace() -> None:
    class Fail(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            raise KeyboardInterrupt

    model, optimizer, twin, dense = twins()
    train(model, optimizer, batches(5))
    train(twin, dense, batches(5))
    read = model.table.project(torch.tensor([1, 2]), model.linear)
    with pytest.raises(KeyboardInterrupt):
        Fail.apply(read).sum().backward()  # type: ignore[no-untyped-call]
    with pytest.raises(IndexError):
        model.table.gather(torch.tensor([N]))
    train(model, optimizer, batches(5, seed=2))
    train(twin, dense, batches(5, seed=2))
    assert_same(model, twin)


def test_a_second_backward_through_the_same_graph() -> None:
    model, optimizer, twin, dense = twins()
    for each, opt in ((model, optimizer), (twin, dense)):
        loss = each.loss(torch.tensor([1, 2]))
        loss.backward(retain_graph=True)
        loss.backward()
        opt.step()
    assert_same(model, twin)


def test_closure() -> None:
    model, optimizer, twin, dense = twins()

    def closure_of(each: Small, opt: torch.optim.Optimizer) -> Callable[[], float]:
        def closure() -> float:
            opt.zero_grad()
            loss = each.loss(torch.tensor([1, 2]))
            loss.backward()
            return loss.item()

        return closure

    assert optimizer.step(closure_of(model, optimizer)) == dense.step(closure_of(twin, dense))
    assert_same(model, twin)


# Learning rates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [
        lambda step: 0.0 if 10 <= step < 60 else 1.0,
        lambda step: 0.0,
        lambda step: 100.0 if step % 7 == 0 else 1e-4,
        lambda step: 1 / (1 + step),
    ],
)
def test_learning_rates_of_past_steps_are_kept(schedule: Callable[[int], float]) -> None:
    model, optimizer, twin, dense = twins()
    for each, opt in ((model, optimizer), (twin, dense)):
        scheduler = torch.optim.lr_scheduler.LambdaLR(opt, schedule)
        for batch in batches(100):
            train(each, opt, iter([batch]))
            scheduler.step()
    assert_same(model, twin, 1e-10)


def test_two_tables_with_groups_of_their_own() -> None:
    model, twin = Small(), Small()
    other, other_twin = (RowTable(torch.ones(N, WIDTH, dtype=torch.float64)) for _ in range(2))
    groups: list[list[dict[str, Any]]] = [
        [{"params": list(m.parameters()), "lr": 1e-2}, {"params": list(o.parameters()), "betas": (0.8, 0.9)}]
        for m, o in ((model, other), (twin, other_twin))
    ]
    optimizer = DeferredAdam(groups[0], [model.table, other])
    dense = torch.optim.Adam(groups[1])
    for each, o, opt in ((model, other, optimizer), (twin, other_twin, dense)):
        for step, batch in enumerate(batches(60)):
            opt.zero_grad()
            loss = each.loss(batch)
            if step % 3 == 0:  # the other table stands still in between, as in dense Adam
                loss = loss + o.project(batch, each.linear).square().sum()
            loss.backward()
            opt.step()
    assert_same(model, twin)
    assert_same(other, other_twin)


# Saving -----------------------------------------------------------------------------------------------------------


def test_resume_is_bit_identical_and_saving_changes_nothing() -> None:
    for saved_at in (1, 37):
        whole, halves = Small(torch.float32), Small(torch.float32)
        optimizer, first = build_optimizer(whole), build_optimizer(halves)
        rows = list(batches(150))
        train(whole, optimizer, iter(rows))
        train(halves, first, iter(rows[:saved_at]))
        file = io.BytesIO()
        torch.save({"model": halves.state_dict(), "optimizer": first.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        resumed = Small(torch.float32, seed=9)
        second = build_optimizer(resumed)
        resumed.load_state_dict(saved["model"])
        second.load_state_dict(saved["optimizer"])
        train(resumed, second, iter(rows[saved_at:]))
        train(halves, first, iter(rows[saved_at:]))
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), (saved_at, name)
            assert torch.equal(value, halves.state_dict()[name]), (saved_at, name)
        assert torch.equal(whole.table.stored, resumed.table.stored)


def test_weights_loaded_while_training_are_up_to_date() -> None:
    model, optimizer, twin, dense = twins()
    best = Small(seed=5).state_dict()
    for each, opt in ((model, optimizer), (twin, dense)):
        train(each, opt, batches(20))
        each.load_state_dict(best)
        if each is model:
            assert_same(each, Small(seed=5), 0)
        train(each, opt, batches(20, seed=2))
    assert_same(model, twin)


def test_optimizer_state_loaded_before_the_model_is_right_too() -> None:
    model, optimizer, twin, dense = twins()
    train(model, optimizer, batches(20))
    train(twin, dense, batches(40))
    resumed = Small(seed=9)
    second = build_optimizer(resumed)
    second.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(model.state_dict())
    rest = list(batches(40))[20:]
    train(resumed, second, iter(rest))
    assert_same(resumed, twin, 1e-11)


def test_state_that_does_not_fit_is_refused() -> None:
    model, optimizer, _, dense = twins()
    train(model, optimizer, batches(3))
    good = copy.deepcopy(optimizer.state_dict())
    fresh = Small()
    second = build_optimizer(fresh)
    with pytest.raises(ConfigError, match="0 deferred tables, expected 1"):
        second.load_state_dict(dense.state_dict())
    for key, value, message in (
        ("weight", torch.zeros(2, 2), "weight is"),
        ("betas", [0.5, 0.9], "betas is"),
        ("last", torch.zeros(N), "last is"),
        ("last", torch.full((N,), 9, dtype=torch.int32), "not that of 3 steps"),
        ("sizes", torch.zeros(2), "not that of 3 steps"),
    ):
        bad = {**good, "tables": [{**good["tables"][0], key: value}]}
        with pytest.raises(ConfigError, match=message):
            second.load_state_dict(bad)
    short = {**good, "tables": [{k: v for k, v in good["tables"][0].items() if k != "exp_avg"}]}
    with pytest.raises(ConfigError, match="lacks exp_avg"):
        second.load_state_dict(short)
    assert_same(fresh, Small(), 0)


# Settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": 0.1}, "weight_decay"),
        ({"amsgrad": True}, "amsgrad"),
        ({"lr": -1.0}, "lr"),
        ({"lr": math.nan}, "lr"),
        ({"betas": (1.0, 0.999)}, "betas"),
        ({"betas": (0.9, 0.5)}, "betas"),
        ({"betas": (-0.1, 0.999)}, "betas"),
        ({"eps": 0.0}, "eps"),
    ],
)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    model = Small()
    with pytest.raises(ConfigError, match=message):
        DeferredAdam(model.parameters(), [model.table], **settings)
    optimizer = DeferredAdam(model.parameters(), [model.table])
    model.loss(torch.tensor([1])).backward()
    optimizer.param_groups[0].update(settings)
    with pytest.raises(ConfigError, match=message):
        optimizer.step()
    assert_same(model, Small(), 0)


def test_betas_cannot_change_under_way() -> None:
    model, optimizer, _, _ = twins()
    train(model, optimizer, batches(3))
    optimizer.param_groups[0]["betas"] = (0.8, 0.999)
    with pytest.raises(ConfigError, match="cycle_momentum"):
        optimizer.step()


def test_weight_decay_is_for_groups_without_tables() -> None:
    model, twin = Small(), Small()
    for each in (model, twin):
        groups: list[dict[str, Any]] = [
            {"params": list(each.table.parameters())},
            {"params": [each.ids], "weight_decay": 0.1},
        ]
        opt = DeferredAdam(groups, [each.table]) if each is model else torch.optim.Adam(groups)
        train(each, opt, batches(30))
    assert_same(model, twin)


def test_tables_must_be_trainable_and_among_the_parameters() -> None:
    table, frozen = RowTable(torch.zeros(3, 2)), RowTable(torch.zeros(3, 2), trainable=False)
    with pytest.raises(ConfigError, match="frozen"):
        DeferredAdam(table.parameters(), [frozen])
    with pytest.raises(ConfigError, match="twice"):
        DeferredAdam(table.parameters(), [table, table])
    with pytest.raises(ConfigError, match="not among"):
        DeferredAdam([nn.Parameter(torch.zeros(1))], [table])
    assert table.deferral is None


def test_a_later_optimizer_takes_over() -> None:
    model, optimizer, twin, dense = twins()
    train(model, optimizer, batches(10))
    train(twin, dense, batches(10))
    later = build_optimizer(model, lr=1e-2)
    assert_same(model, twin)
    train(model, later, batches(10))
    train(twin, torch.optim.Adam(twin.parameters(), lr=1e-2), batches(10))
    assert_same(model, twin)
    with pytest.raises(ConfigError, match="another DeferredAdam"):
        train(model, optimizer, batches(1))


def test_a_model_cast_after_the_optimizer_was_built() -> None:
    model, optimizer, _, _ = twins(torch.float32)
    train(model, optimizer, batches(2))
    expected = model.table.weight.double()
    model.double()
    assert torch.equal(model.state_dict()["table.weight"], expected)
    assert torch.equal(copy.deepcopy(model).table.weight, expected)
    model.loss(torch.tensor([1])).backward()
    with pytest.raises(ConfigError, match="build the optimizer after"):
        optimizer.step()
    model.float()
    with pytest.raises(ConfigError, match="build the optimizer after"):
        optimizer.step()


def test_an_optimizer_that_lets_go_leaves_plain_tables() -> None:
    model, optimizer, twin, dense = twins()
    train(model, optimizer, batches(10))
    train(twin, dense, batches(10))
    optimizer.detach()
    assert model.table.deferral is None
    assert_same(model, twin)
    with pytest.raises(ConfigError, match="detached"):
        optimizer.step()


def test_the_optimizer_of_tables_is_not_copied() -> None:
    optimizer = twins()[1]
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(ConfigError, match="cannot be copied or pickled"):
            copied(optimizer)
    plain = DeferredAdam(nn.Linear(2, 2).parameters())
    again = pickle.loads(pickle.dumps(plain))
    again.step()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ConfigError, match=rf"^weight: is {dtype}, expected torch.float32 or torch.float64"):
        build_optimizer(nn.Linear(2, 2).to(dtype))


def test_build_optimizer_without_tables_is_plain_adam() -> None:
    assert type(build_optimizer(nn.Linear(2, 2))) is torch.optim.Adam
    frozen = nn.ModuleList([RowTable(torch.zeros(3, 2), trainable=False), nn.Linear(2, 2)])
    assert type(build_optimizer(frozen)) is torch.optim.Adam


def test_frozen_table_beside_a_deferred_one() -> None:
    model, twin = Small(), Small()
    frozen = RowTable(torch.randn(N, DIM).half(), trainable=False)
    for each in (model, twin):
        opt = build_optimizer(each) if each is model else torch.optim.Adam(each.parameters())
        for batch in batches(20):
            opt.zero_grad()
            (each.table.project(batch, each.linear) - frozen.gather(batch)).square().sum().backward()
            opt.step()
    assert_same(model, twin)
