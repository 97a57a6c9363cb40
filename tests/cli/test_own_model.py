"""``--model module:Class``: a recommender of one's own, in a file of the current folder."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bm3_pyg import TrainConfig, fit, load_dataset, load_run
from bm3_pyg.errors import RunError
from bm3_pyg.names import own_class

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., None]

SOURCE = '''
from typing import Any, NamedTuple

import torch
from torch import nn

from bm3_pyg.nn import RecommenderModel


class Losses(NamedTuple):
    total: Any


class Dots(RecommenderModel):
    """Dot products.

    Args:
        embedding_dim: dimension D.
        shape: anything.
    """

    def __init__(self, num_users, num_items, edge_index, *, embedding_dim=8, shape=(1, 2)):
        super().__init__()
        self.user_embedding = nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_embedding = nn.Parameter(torch.empty(num_items, embedding_dim))
        self.reset_parameters()

    def embed(self):
        return self.user_embedding, self.item_embedding

    def loss(self, users, items):
        return Losses(-(self.user_embedding[users] * self.item_embedding[items]).sum(1).sigmoid().mean())


class NeedsOne(Dots):
    def __init__(self, num_users, num_items, edge_index, *, one):
        super().__init__(num_users, num_items, edge_index)


class Scores:
    def scorer(self):
        return None


class Bare(Scores):
    def __init__(self, *, width=1):
        pass

    @classmethod
    def from_data(cls, data):
        return cls()


class Other:
    pass
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path) -> Iterator[None]:
    """Modules of this folder; what importing them leaves behind is taken away afterwards."""
    (tmp_path / "dots_of_mine.py").write_text(SOURCE)
    (tmp_path / "broken_of_mine.py").write_text("import torch\n\nraise ValueError('no\\nluck')\n")
    (tmp_path / "lacking_of_mine.py").write_text("import not_there_at_all\n")
    path, loaded = [*sys.path], {*sys.modules}
    yield
    sys.path[:] = path
    for name in {*sys.modules} - loaded:
        if name.endswith("_of_mine"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model", "nothing_of_mine:Dots"],
            "model: no module 'nothing_of_mine' in the current folder or on Python's",
        ),
        (["--model", "dots_of_mine.py:Dots"], "model: no module 'dots_of_mine.py'"),
        (["--model", "a/b:Dots"], "model: got 'a/b:Dots', expected module:Class"),
        (["--model", "dots_of_mine:"], "model: got 'dots_of_mine:', expected module:Class"),
        (["--model", "dots_of_mine:Dot"], "model: dots_of_mine has no class 'Dot', did you mean 'Dots'?"),
        (["--model", "dots_of_mine:torch"], "has no class 'torch', expected one of"),
        (["--model", "dots_of_mine:Other"], "model: dots_of_mine:Other has no scorer, expected a recommender"),
        (["--model", "dots_of_mine:Scores"], "model: dots_of_mine:Scores has no from_data, expected a recommender"),
        (["--model", "dots_of_mine:Bare"], "model: dots_of_mine:Bare has no options, expected a recommender"),
        (["--model", "broken_of_mine:Dots"], "broken_of_mine.py, line 3: ValueError: no luck"),
        (["--model", "lacking_of_mine:Dots"], "line 1: ModuleNotFoundError: No module named 'not_there_at_all'"),
        (["--model", "dots_of_mine:Dots", "--set", "embeding_dim=4"], "did you mean 'embedding_dim'?"),
        (["--model", "dots_of_mine:Dots", "--set", "embedding_dim=0"], "embedding_dim: got 0, expected an integer"),
        (["--model", "dots_of_mine:Dots", "--preset", "plus"], "--preset: is for bm3"),
        (["--model", "dots_of_mine:NeedsOne"], "expected one=VALUE, which has no default in dots_of_mine:NeedsOne"),
    ],
)
def test_what_is_wrong_with_it_is_told_in_a_line(
    bm3: Run, arguments: list[str], message: str, assert_refused: Refused
) -> None:
    assert_refused(bm3("train", "demo", "--out", "run", *arguments), message)
    if arguments[1:] != ["dots_of_mine:NeedsOne"] and "--preset" not in arguments:
        assert_refused(bm3("sweep", "demo", "--out", "runs", "--models", *arguments[1:]), message)


def test_it_is_trained_resumed_used_and_reported(bm3: Run, shop: Path, assert_refused: Refused) -> None:
    assert "Dot products.\n\n--set for dots_of_mine:Dots" in bm3("models", "dots_of_mine:Dots")[1]
    listed = bm3("train", "--model", "dots_of_mine:Dots", "--help")[1]
    assert re.search(r"^  shape +\(1, 2\) +any value; anything\.$", listed, flags=re.MULTILINE)
    command = ["train", shop, "--out", "runs/mine", "--model", "dots_of_mine:Dots", "--set", "embedding_dim=4"]
    assert bm3(*command, "max_epochs=1", "shape=[3, 0.5]")[0] == 0
    assert bm3("train", "--out", "runs/mine", "--resume", "--set", "max_epochs=2")[0] == 0
    saved = yaml.safe_load(Path("runs/mine/config.yaml").read_text())["model"]
    assert saved == {"name": "dots_of_mine:Dots", "options": {"embedding_dim": 4, "shape": [3, 0.5]}}
    assert bm3("evaluate", "runs/mine")[0] == bm3("recommend", "runs/mine", "--k", "2")[0] == 0
    model, data = load_run("runs/mine")
    assert type(model).__module__ == "dots_of_mine"
    assert load_run("runs/mine", data=data, model=type(model).from_data(data, embedding_dim=4, shape=[3, 0.5]))
    del sys.modules["dots_of_mine"]
    Path("dots_of_mine.py").rename("elsewhere_of_mine.py")
    assert_refused(bm3("evaluate", "runs/mine"), "runs/mine/config.yaml: model: no module 'dots_of_mine'")
    with pytest.raises(RunError, match="no module 'dots_of_mine'"):
        load_run("runs/mine")
    assert bm3("report", "runs/mine", "--out", "report.html")[0] == 0
    assert "dots_of_mine:Dots" in Path("report.md").read_text()


def test_a_run_that_knows_the_class_by_its_old_name(bm3: Run, shop: Path) -> None:
    """Once all classes but those of this package were called by their names in lower case."""
    cls, data = own_class("dots_of_mine:Dots"), load_dataset(shop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bm3_pyg.train.run.name_of", lambda model, before=None: "dots")
        fit(cls.from_data(data), data, TrainConfig(max_epochs=1), "run", verbose=False)
    fit(cls.from_data(data), data, TrainConfig(max_epochs=2), "run", resume=True, verbose=False)
    assert yaml.safe_load(Path("run/config.yaml").read_text())["model"]["name"] == "dots"
    assert type(load_run("run", model=cls.from_data(data))[0]) is cls
    with pytest.raises(RunError, match="if it is a class of your own, pass one as model"):
        load_run("run")


@pytest.mark.parametrize("where", ["__main__", "dots_of_mine"])
def test_a_run_that_knows_a_class_which_cannot_be_imported_now(
    bm3: Run, shop: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """It stands in the script that runs, or its module was loaded anew since."""
    cls, data = own_class("dots_of_mine:Dots"), load_dataset(shop)
    fit(cls.from_data(data), data, TrainConfig(max_epochs=1), "run", verbose=False)
    monkeypatch.setattr(cls, "__module__", where)
    del sys.modules["dots_of_mine"]
    assert own_class("dots_of_mine:Dots") is not cls
    assert type(load_run("run", model=cls.from_data(data))[0]) is cls
    fit(cls.from_data(data), data, TrainConfig(max_epochs=2), "run", resume=True, verbose=False)
    assert yaml.safe_load(Path("run/config.yaml").read_text())["model"]["name"] == "dots_of_mine:Dots"
    other: Any = type("Spots", (cls,), {"__module__": where})
    with pytest.raises(RunError, match="trained with dots_of_mine:Dots, got a spots"):
        load_run("run", model=other.from_data(data))
