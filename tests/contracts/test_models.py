"""What must hold for every model: it is a module like any other."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, TrainConfig, build_optimizer, evaluate, fit, load_run, recommend
from bm3_pyg.errors import ConfigError, RunError
from bm3_pyg.eval import with_cold_items
from bm3_pyg.models import MODELS
from bm3_pyg.optim import RowTable
from bm3_pyg.optim.row_adam import RowAdam
from bm3_pyg.serving import similar_items
from bm3_pyg.train.settings import build_model

TRAINABLE = [name for name, cls in MODELS.items() if hasattr(cls, "loss")]
CONFIG = TrainConfig(max_epochs=2, batch_size=200, lr=0.01, seed=3, save_features=True)
USERS = torch.tensor([5, 0, 69, 5, 33])

every_model = pytest.mark.parametrize("name", MODELS)
every_trainable = pytest.mark.parametrize("name", TRAINABLE)


def build(data: HeteroData, name: str, seed: int = 0) -> Any:
    return build_model(data, {} if name in ("popularity", "itemknn") else {"embedding_dim": 8}, seed, "cpu", name)


def trained(data: HeteroData, name: str, **options: Any) -> Any:
    model = build(data, name)
    fit(model, data, CONFIG, verbose=False, **options)
    return model


def scores(model: Any, users: Tensor = USERS) -> Tensor:
    found: Tensor = model.scorer()(users).detach()
    return found


def a_step(model: Any, data: HeteroData, **options: Any) -> Any:
    """One step of training; the losses before."""
    optimizer = build_optimizer(model, lr=0.01)
    users, items = data["user", "rates", "item"].edge_index[:, :300]
    losses = model.loss(users, items, generator=torch.Generator().manual_seed(1))
    losses.total.backward()
    optimizer.step()
    return losses


def assert_same_module(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        assert value.dtype == theirs[key].dtype
        assert torch.equal(value, theirs[key]), key


@every_model
def test_repr_has_the_sizes_and_the_options(some_data: HeteroData, name: str) -> None:
    model = build(some_data, name)
    assert f"num_items={50}" in repr(model)
    assert name == "popularity" or "num_users=70" in repr(model)
    for option, value in model.options.items():
        assert f"{option}={value!r}" in repr(model)


@every_model
def test_a_seed_decides_the_weights(some_data: HeteroData, name: str) -> None:
    assert_same_module(build(some_data, name, 4), build(some_data, name, 4))
    if name in TRAINABLE:
        assert not torch.equal(scores(build(some_data, name, 4)), scores(build(some_data, name, 5)))


@every_model
def test_options_build_the_model_anew(some_data: HeteroData, name: str) -> None:
    model = build(some_data, name)
    again = MODELS[name].from_data(some_data, **model.options)
    assert again.options == model.options
    again.load_state_dict(model.state_dict())
    assert_same_module(again, model)


@every_model
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save", "state_dict"])
def test_a_copy_after_training_scores_and_trains_alike(some_data: HeteroData, name: str, how: str) -> None:
    model = trained(some_data, name)
    if how == "deepcopy":
        again = copy.deepcopy(model)
    elif how == "pickle":
        again = pickle.loads(pickle.dumps(model))
    elif how == "torch.save":
        torch.save(model, file := io.BytesIO())
        file.seek(0)
        again = torch.load(file, weights_only=False)
    else:
        again = build(some_data, name, seed=9)
        again.load_state_dict(model.state_dict())
    assert_same_module(again, model)
    torch.testing.assert_close(scores(again), scores(model))
    assert [module.training for module in again.modules()] == [module.training for module in model.modules()]
    for each in (again, model):
        fit(each, some_data, CONFIG, verbose=False)
    assert_same_module(again, model)


@every_model
def test_after_training_nothing_of_the_optimizer_is_left(some_data: HeteroData, name: str) -> None:
    model = trained(some_data, name)
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is RowAdam]
    assert all(table.deferral is None for table in model.modules() if isinstance(table, RowTable))
    assert all(parameter.grad is None for parameter in model.parameters())


@every_model
@pytest.mark.parametrize("after_training", [False, True])
def test_double_precision(some_data: HeteroData, name: str, after_training: bool) -> None:
    model = trained(some_data, name) if after_training else build(some_data, name)
    before, weights = scores(model), copy.deepcopy(model.state_dict())
    assert model.double() is model
    torch.testing.assert_close(scores(model).double(), before.double(), rtol=1e-4, atol=1e-5)
    assert model.state_dict().keys() == weights.keys()
    copy.deepcopy(model)
    assert evaluate(model, some_data).keys() == evaluate(model.to("cpu"), some_data).keys()
    if name == "bm3":
        assert with_cold_items(model, some_data).embed()[1].dtype == torch.float64
    if name in TRAINABLE:
        assert a_step(model, some_data).total.dtype == torch.float64
        assert fit(model, some_data, CONFIG, verbose=False).history[-1]["loss"]["total"] > 0


@every_model
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_ranks_and_is_refused_in_training(
    some_data: HeteroData, name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = trained(some_data, name)
    before = scores(model)
    model.to(dtype)
    torch.testing.assert_close(scores(model).float(), before, rtol=0.05, atol=0.05)
    assert evaluate(model, some_data)["recall@50"] == 1
    if name in TRAINABLE:
        with pytest.raises(ConfigError, match=f"is {dtype}, expected torch.float32 or torch.float64"):
            fit(model, some_data, CONFIG, tmp_path / "run", verbose=False)
        assert not (tmp_path / "run").exists()


@every_trainable
def test_training_goes_on_where_gradients_are_off(some_data: HeteroData, name: str) -> None:
    expected = trained(some_data, name)
    for without in (torch.no_grad, torch.inference_mode):
        model = build(some_data, name)
        with without():
            fit(model, some_data, CONFIG, verbose=False)
        assert_same_module(model, expected)


@every_trainable
def test_a_model_made_in_inference_mode_is_refused_in_training(some_data: HeteroData, name: str) -> None:
    with torch.inference_mode():
        model = build(some_data, name)
    with pytest.raises(ConfigError, match=r"was made under torch\.inference_mode"):
        fit(model, some_data, CONFIG, verbose=False)


@every_trainable
def test_autocast_changes_nothing(some_data: HeteroData, name: str) -> None:
    plain, cast = build(some_data, name), build(some_data, name)
    expected = a_step(plain, some_data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = a_step(cast, some_data)
        found = scores(cast)
    for one, other in zip(losses, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, scores(plain), rtol=1e-4, atol=1e-5)


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@every_model
@pytest.mark.usefixtures("float64_by_default")
def test_float64_by_default(some_data: HeteroData, name: str) -> None:
    some_data["item"].image = some_data["item"].image.float()
    model = build(some_data, name)
    result = fit(model, some_data, CONFIG, verbose=False)
    assert evaluate(model, some_data) == result.test
    if name in TRAINABLE:
        assert scores(model).dtype == torch.float64


@every_model
def test_a_compiled_module_is_the_module_inside(some_data: HeteroData, name: str, tmp_path: Path) -> None:
    compiled: Any = torch.compile(build(some_data, name), backend="eager")
    result = fit(compiled, some_data, CONFIG, tmp_path / "run", verbose=False)
    loaded, _ = load_run(tmp_path / "run", data=some_data)
    assert evaluate(loaded, some_data) == evaluate(compiled, some_data) == result.test
    assert_same_module(loaded, compiled._orig_mod)
    assert_same_module(loaded, trained(some_data, name))
    assert torch.equal(recommend(compiled, [3])[0], recommend(loaded, [3])[0])


@pytest.mark.parametrize("name", ["bm3", "lightgcn"])
def test_a_compiled_loss_is_the_loss(some_data: HeteroData, name: str) -> None:
    """Compiled loops give way to PyTorch's operators."""
    plain, compiled = build(some_data, name), build(some_data, name)
    if name == "bm3":
        plain.objective.dropout = compiled.objective.dropout = 0.0  # masks are drawn otherwise
    compiled.loss = torch.compile(compiled.loss, backend="eager")
    for _ in range(2):
        torch.testing.assert_close(a_step(compiled, some_data).total, a_step(plain, some_data).total)
    torch._dynamo.reset()


@every_model
def test_a_class_of_ones_own_is_loaded_into_an_object_of_it(some_data: HeteroData, name: str, tmp_path: Path) -> None:
    own: Any
    for own in (type("Mine", (MODELS[name],), {}), type(MODELS[name].__name__, (MODELS[name],), {})):
        run = tmp_path / own.__name__
        model = own.from_data(some_data)
        result = fit(model, some_data, CONFIG, run, verbose=False)
        with pytest.raises(RunError, match=r"model: got .* if it is a class of your own, pass one as model"):
            load_run(run, data=some_data)
        with pytest.raises(RunError, match=f"got a {name}$"):
            load_run(run, data=some_data, model=build(some_data, name))
        loaded: Any = load_run(run, data=some_data, model=own.from_data(some_data))[0]
        assert type(loaded) is own
        assert evaluate(loaded, some_data) == result.test


@every_model
def test_lists_do_not_depend_on_the_company(some_data: HeteroData, name: str) -> None:
    """Each user's list is the same alone, in any order and more than once; rounding may differ by company."""
    model = trained(some_data, name)
    whole = scores(model, torch.arange(70))
    order = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    for users in (torch.arange(70), order, torch.tensor([7]), torch.tensor([7, 7, 0, 7])):
        ids, values = recommend(model, users, 5)
        assert ids.shape == values.shape == (users.numel(), 5)
        torch.testing.assert_close(values, whole[users].topk(5).values, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(values, whole[users].gather(1, ids), rtol=1e-4, atol=1e-6)
    if hasattr(model, "embed"):
        ids, cosines = similar_items(model, [4, 2, 4], 3)
        assert torch.equal(ids[0], ids[2])
        torch.testing.assert_close(cosines[:2], similar_items(model, [4, 2], 3)[1])


@every_trainable
def test_a_seed_decides_the_result_in_any_thread(some_data: HeteroData, name: str) -> None:
    expected = trained(some_data, name)
    with ThreadPoolExecutor(3) as threads:
        for model in threads.map(lambda _: trained(some_data, name), range(3)):
            assert_same_module(model, expected)


def large_data() -> HeteroData:
    """Tables larger than the smallest block that is kept for use again."""
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 5000, 4500
    data["item"].image = torch.randn(4500, 70, generator=generator)
    edges = torch.stack([torch.randint(size, (20000,), generator=generator) for size in (5000, 4500)])
    data["user", "rates", "item"].edge_index = edges.unique(dim=1)
    return data


@every_model
@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_a_pickle_has_no_scratch_memory(name: str, write: Callable[[Any, io.BytesIO], None]) -> None:
    """As large after use as before."""
    data = large_data()
    model = build_model(data, {}, 0, "cpu", name)
    sizes = []
    for _ in range(2):
        write(model, file := io.BytesIO())
        sizes.append(file.tell())
        if name in TRAINABLE:
            a_step(model, data)
            model.zero_grad()
        scores(model)
    assert sizes[1] < sizes[0] + 10_000


def test_options_that_no_file_can_hold_are_told_before_a_run_begins(some_data: HeteroData, tmp_path: Path) -> None:
    class Mine(BM3):
        @property
        def options(self) -> dict[str, Any]:
            return {"weight": torch.ones(1)}

    with pytest.raises(ConfigError, match="model: options: expected plain values"):
        fit(Mine.from_data(some_data), some_data, CONFIG, tmp_path / "run", verbose=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["embedding_dim", "num_layers", "neighbours", "item_layers", "item_neighbours"])
def test_absurd_sizes_are_refused_in_one_line(some_data: HeteroData, option: str) -> None:
    some = [name for name in MODELS if option in build(some_data, name).options]
    assert some
    for name in some:
        with pytest.raises(ConfigError, match=f"^{option}: got 1000000000, expected an integer at least"):
            MODELS[name].from_data(some_data, **{option: 10**9})
