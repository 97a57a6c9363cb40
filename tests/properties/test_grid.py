"""Grids against nested loops, samples against the sets they are drawn from."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bm3_pyg.errors import ConfigError
from bm3_pyg.study.search import Setting, grid, knows, sample

MODELS = ("bm3", "lightgcn", "bprmf", "popularity")
KEYS = ("num_layers", "dropout", "lr", "batch_size", "reg_weight", "align_weight")
VALUES = st.lists(st.sampled_from(["1", "2", "0.5", "1e-3"]), min_size=1, max_size=4, unique=True)
AXES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4)


@given(st.lists(st.sampled_from(MODELS), min_size=1, unique=True), AXES)
def test_every_combination_once_for_every_model_that_knows_the_key(
    models: list[str], axes: dict[str, list[str]]
) -> None:
    own = {
        model: {key: values for key, values in axes.items() if knows(model, f"{key}={values[0]}")} for model in models
    }
    assume(all(any(key in known for known in own.values()) for key in axes))
    settings = grid(models, [f"{key}={','.join(values)}" for key, values in axes.items()])
    assert len(set(settings)) == len(settings) == sum(prod(map(len, known.values())) for known in own.values())
    for setting in settings:
        chosen = dict(text.split("=") for text in setting.settings)
        assert list(chosen) == list(own[setting.model])
        assert all(value in own[setting.model][key] for key, value in chosen.items())
    assert [model for model in models if any(s.model == model for s in settings)] == models


@given(st.sampled_from(MODELS), AXES)
def test_an_axis_of_one_model_is_no_other_models(model: str, axes: dict[str, list[str]]) -> None:
    settings = grid(MODELS, [f"{model}.{key}={','.join(values)}" for key, values in axes.items()])
    assert sum(setting.model == model for setting in settings) == prod(map(len, axes.values()))
    assert all(not setting.settings for setting in settings if setting.model != model)


@given(st.text(max_size=12))
def test_what_is_no_axis_is_refused_in_one_line(text: str) -> None:
    assume("=" not in text or not text.partition("=")[2])
    with pytest.raises(ConfigError, match=r"^--grid: got") as caught:
        grid(["bm3"], [text])
    assert len(str(caught.value).splitlines()) == 1


@given(st.dictionaries(st.sampled_from(MODELS), st.integers(1, 20)), st.integers(1, 25), st.integers(0, 99))
def test_a_sample_is_of_each_model_without_repeats(counts: dict[str, int], count: int, seed: int) -> None:
    settings = [Setting(model, (f"lr={at}",)) for model, n in counts.items() for at in range(n)]
    chosen = sample(settings, count, seed)
    assert chosen == sample(settings, count, seed)
    assert list(chosen) == [setting for setting in settings if setting in set(chosen)]
    for model, n in counts.items():
        assert sum(setting.model == model for setting in chosen) == min(n, count)
