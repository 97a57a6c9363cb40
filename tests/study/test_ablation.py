"""The words of an ablation follow its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bm3_pyg.study.ablation import REASON, ablations_of, effect_of
from bm3_pyg.study.content import Ablation, Comparison
from bm3_pyg.study.runs import Evaluations, Group, Run, gather

Make = Callable[..., Path]
BASE = {"modalities": ["image", "text"]}
ONE = Comparison("recall@20", "a", "b", 9, -0.1, -0.2, -0.05, 0.001, 0.002, -0.3, seeds_p=0.01)


@pytest.fixture
def say(tmp_path: Path, make_run: Make) -> Callable[..., tuple[tuple[Ablation, ...], str]]:
    """Ablations with these shifts of each change, and their words."""

    def build(seeds: int = 2, base: dict[str, Any] | None = None, **shifts: float) -> Any:
        changes: dict[str, dict[str, Any]] = {
            "published": {"options": {**BASE, **(base or {})}},
            "image": {"options": {"modalities": ["text"]}},
            "none": {"options": {"modalities": []}},
            "shuffled": {"options": BASE, "corrupt": "shuffled"},
            "masking": {"options": {**BASE, "mask_weight": 0.0}},
        }
        groups = {}
        for name, change in changes.items():
            runs: list[Run] = []
            for seed in range(seeds):
                folder = make_run(tmp_path / f"{name}-{seed}", seed=seed, shift=shifts.get(name, 0.0), **change)
                runs += [replace(gather([folder]).runs[0], label=name)]
            groups[name] = Group(name, tuple(runs))
        unchanged = groups.pop("published")
        return ablations_of(unchanged, list(groups.values()), Evaluations(None, []))

    return build


def test_features_without_effect_are_said_to_have_none_with_the_reason(say: Callable[..., Any]) -> None:
    ablations, words = say()
    assert [one.label for one in ablations] == ["image", "none", "shuffled", "masking"]
    none = ablations[1]
    assert none.comparison.second == "published"
    assert none.words.startswith("none: Recall@20 ")
    assert "not distinguishable from zero over 60 users, 2 seeds" in none.words
    assert f"{none.comparison.difference:+.4f} [{none.comparison.low:+.4f}, {none.comparison.high:+.4f}]" in none.words
    assert none.seeds == (0, 1)
    assert none.test["recall@20"].mean > 0
    assert words.startswith("These runs do not show that the features help. Recall@20 without any feature: ")
    assert f"a help of more than {-none.comparison.low:.4f} is outside the 95% interval" in words
    assert "is not shown to matter" in words
    assert words.endswith(REASON)
    assert "one seed" not in words


def test_features_that_help_are_said_to(say: Callable[..., Any]) -> None:
    ablations, words = say(none=-0.1, shuffled=-0.1)
    assert ablations[1].comparison.difference == pytest.approx(-0.1, abs=0.01)
    assert ", distinguishable from zero over" in ablations[1].words
    assert words.startswith("The features help here.")
    assert "does matter" in words


def test_features_that_harm_are_said_to(say: Callable[..., Any]) -> None:
    _, words = say(none=0.1, shuffled=-0.1)
    assert words.startswith("The features do harm here.")


def test_the_reason_is_not_given_where_features_act_otherwise(say: Callable[..., Any]) -> None:
    _, words = say(seeds=1, base={"item_neighbours": 5})
    assert REASON not in words
    assert words.endswith("All this is from one seed: another training may say otherwise.")


def test_an_effect_needs_users_and_seeds() -> None:
    assert effect_of(ONE) == "lower"
    assert effect_of(replace(ONE, difference=0.1)) == "higher"
    assert effect_of(replace(ONE, seeds_p=None)) == "lower"
    assert effect_of(replace(ONE, seeds_p=0.2)) == "not over seeds"
    assert effect_of(replace(ONE, corrected_p=0.05)) == "unclear"
