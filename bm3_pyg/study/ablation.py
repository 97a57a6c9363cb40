"""What an ablation sweep says, in words that follow from its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bm3_pyg.names import SELECTION
from bm3_pyg.study.content import Ablation, Comparison
from bm3_pyg.study.rows import grouped, settings_of, spreads
from bm3_pyg.study.runs import Evaluations, Group, SweptRuns
from bm3_pyg.study.stats import LEVEL, compared

REASON = (
    "Why: the targets of the alignment and masking losses are constants (stop-gradient), so no gradient of these "
    "losses reaches the id embeddings; in BM3 as published, features act on the ranking only through the predictor "
    "that ids and features share."
)


def sweep_ablations(
    sweeps: Sequence[SweptRuns], groups: Sequence[Group], evaluations: Evaluations
) -> tuple[tuple[Ablation, ...], str]:
    """What each ablation sweep says against its unchanged model, which is among ``groups``."""
    ablations: list[Ablation] = []
    words = []
    for swept in sweeps:
        if swept.unchanged is None:
            continue
        if not (base := swept.by_setting.get(swept.unchanged)):
            text = f"{swept.name}: {swept.unchanged} has no finished run, so the changes have no measure"
            evaluations.warnings.append(text)
            continue
        unchanged = next(
            group
            for group in groups
            if group.runs[0].model == base[0].model and settings_of(group.runs[0]) == settings_of(base[0])
        )
        changed = [run for setting, runs in swept.by_setting.items() if setting != swept.unchanged for run in runs]
        of_sweep, conclusion = ablations_of(unchanged, grouped(changed, evaluations.warnings), evaluations)
        ablations += of_sweep
        words += [conclusion] if conclusion else []
    return tuple(ablations), " ".join(words)


def ablations_of(
    unchanged: Group, changed: Sequence[Group], evaluations: Evaluations
) -> tuple[tuple[Ablation, ...], str]:
    """Each changed model against the unchanged one, and what they say together about the features."""
    tests = compared([(SELECTION, group, unchanged) for group in changed], evaluations)
    comparisons = {test.first: test for test in tests}
    tested = [group for group in changed if group.label in comparisons]
    ablations = tuple(
        Ablation(
            group.label,
            comparisons[group.label],
            _words(comparisons[group.label], _common(group, unchanged)),
            group.seeds,
            spreads([run.metrics["test"] for run in group.runs]),
        )
        for group in tested
    )
    return ablations, _together(unchanged, tested, comparisons)


def effect_of(comparison: Comparison) -> str:
    """``"higher"`` or ``"lower"`` if the first is, ``"not over seeds"`` if for these trainings only, or ``"unclear"``.

    ``higher`` and ``lower`` need the corrected test over users and, where there is one, that over seeds.
    """
    if comparison.corrected_p >= LEVEL:
        return "unclear"
    if comparison.seeds_p is not None and comparison.seeds_p >= LEVEL:
        return "not over seeds"
    return "higher" if comparison.difference > 0 else "lower"


def _words(test: Comparison, seeds: int) -> str:
    over = f"over {test.users:,} users, {_counted(seeds, 'seed')}"
    verdicts = {
        "unclear": f"not distinguishable from zero {over} (corrected p = {test.corrected_p:.2g})",
        "not over seeds": f"a difference of these trained models {over} (corrected p = {test.corrected_p:.2g}), but "
        f"seeds differ as much (Welch p = {test.seeds_p or 0:.2g})",
    }
    told = f"distinguishable from zero {over} (corrected p = {test.corrected_p:.2g})"
    return f"{test.first}: Recall@20 {_interval(test)}, {verdicts.get(effect_of(test), told)}."


def _together(unchanged: Group, tested: Sequence[Group], comparisons: dict[str, Comparison]) -> str:
    """The conclusion about features."""
    base = settings_of(unchanged.runs[0])
    kinds: dict[str, Callable[[Group], bool]] = {
        "none": lambda group: settings_of(group.runs[0]).get("modalities") == [],
        "fewer": lambda group: (
            0 < len(settings_of(group.runs[0]).get("modalities") or ()) < len(base["modalities"] or ())
        ),
        "spoilt": lambda group: group.runs[0].corrupt is not None,
    }
    of = {kind: [comparisons[group.label] for group in tested if belongs(group)] for kind, belongs in kinds.items()}
    sentences = []
    if of["none"]:
        sentences.append(_do_they_help(of["none"][0]))
    if of["fewer"]:
        sentences.append(_each("One modality less", of["fewer"]))
    if of["spoilt"]:
        sentences.append(_each("Features that say nothing about their items", of["spoilt"]))
        if all(effect_of(test) in ("unclear", "not over seeds") for test in of["spoilt"]):
            sentences.append("So what the features say about items is not shown to matter for the ranking here.")
        elif all(effect_of(test) == "lower" for test in of["spoilt"]):
            sentences.append("So what the features say about items does matter for the ranking here.")
    if not sentences:
        return ""
    if all(_common(group, unchanged) == 1 for group in tested):
        sentences.append("All this is from one seed: another training may say otherwise.")
    if unchanged.runs[0].model == "bm3" and not (base.get("mirror_weight") or base.get("item_neighbours")):
        sentences.append(REASON)
    return " ".join(sentences)


def _do_they_help(without: Comparison) -> str:
    figures = f"Recall@20 without any feature: {_interval(without)} against the model with them"
    effect = effect_of(without)
    if effect == "lower":
        return f"The features help here. {figures}."
    if effect == "higher":
        return f"The features do harm here. {figures}."
    seeds = " beyond what a new seed changes" if effect == "not over seeds" else ""
    most = f"; a help of more than {-without.low:.4f} is outside the 95% interval" if without.low < 0 else ""
    return f"These runs do not show that the features help{seeds}. {figures}{most}."


def _each(what: str, comparisons: Sequence[Comparison]) -> str:
    verdicts = {
        "lower": "lower",
        "higher": "higher",
        "unclear": "not distinguishable from zero",
        "not over seeds": "not more than seeds differ",
    }
    parts = [f"{test.first} {_interval(test)} ({verdicts[effect_of(test)]})" for test in comparisons]
    return f"{what}: {'; '.join(parts)}."


def _interval(test: Comparison) -> str:
    return f"{test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}]"


def _common(group: Group, other: Group) -> int:
    return len(set(group.seeds) & set(other.seeds))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
