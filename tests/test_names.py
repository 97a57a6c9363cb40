"""Names read from the source are those of the classes."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields

import pytest

from bm3_pyg import names
from bm3_pyg.errors import ConfigError
from bm3_pyg.models import MODELS, option_names
from bm3_pyg.train import TrainConfig
from bm3_pyg.train.settings import _value


@pytest.mark.parametrize("model", names.MODELS)
def test_options_are_the_constructors(model: str) -> None:
    options = names.model_options(model)
    assert MODELS[model].__name__ == names.MODELS[model][1]
    assert tuple(option.name for option in options) == option_names(model)
    parameters = inspect.signature(MODELS[model].__init__).parameters
    for option in options:
        default = parameters[option.name].default
        assert (None if option.default is None else _value(option.default)) == (
            None if default is inspect.Parameter.empty else default
        )


def test_training_settings_are_the_fields() -> None:
    assert {option.name: _value(option.default or "") for option in names.training_options()} == {
        field.name: field.default for field in fields(TrainConfig)
    }


@pytest.mark.parametrize("model", names.MODELS)
def test_every_setting_has_a_meaning_and_a_range(model: str) -> None:
    assert names.summary(model).endswith(".")
    for option in (*names.settings_of(model), *names.training_options()):
        assert len(option.meaning) > 5, option
        assert ":" not in option.meaning.split("{")[0].replace("last.pt", ""), option
        assert "`" not in option.meaning, option
        assert option.range
        if option.default not in (None, "null"):
            names.check_option(option.name, _value(option.default or ""))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("embedding_dim", 10**9, "embedding_dim: got 1000000000, expected an integer at least 1 and below 4097"),
        ("num_layers", 10**9, "num_layers: got 1000000000, expected an integer at least 0 and below 101"),
        ("batch_size", 2**63, "expected an integer at least 1 and below 2147483648"),
        ("mask", "all", "mask: got 'all', expected train or seen"),
        ("freeze_features", 1, "freeze_features: got 1, expected true or false"),
        ("dropout", None, "dropout: got None"),
    ],
)
def test_values_out_of_range(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        names.check_option(name, value)


def test_mask_weight_may_be_none() -> None:
    names.check_option("mask_weight", None)


@pytest.mark.parametrize(
    "module",
    [
        "names",
        "cli",
        "data.load",
        "data.catalogue",
        "data.interaction_table",
        "data.mmrec",
        "data.amazon.prepare",
        "train.settings",
    ],
)
def test_modules_that_do_not_import_pytorch(module: str) -> None:
    script = f"import sys, bm3_pyg.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
