"""Figures reported by others, under their right names, and the data they were reported on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bm3_pyg.study.content import HEADLINE, Published

SWAPPED = (
    "Article: its table heads these columns N@10 N@20 R@10 R@20; the headings are swapped there, and the figures stand "
    "here under their right names."
)
PAPER, ARTICLE = "published (paper)", "article's reproduction"
AUTHORS = "authors' code, 3 seeds"
DIFFMM = "DiffMM's table"
DIFFMM_NOTE = "With image, audio and text features."


@dataclass(frozen=True)
class PublishedData:
    """A dataset that others report on: its size, by which it is known again, the features, and the figures."""

    users: int
    items: int
    interactions: int
    features: tuple[str, ...]
    figures: tuple[Published, ...]
    spread: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """Standard deviation of the first source's metrics, and over how many seeds, where it is known."""


def _amazon(paper: tuple[float, ...], article: tuple[float, ...], lightgcn: float) -> tuple[Published, ...]:
    return (
        Published(PAPER, dict(zip(HEADLINE, paper, strict=True))),
        Published(ARTICLE, dict(zip(HEADLINE, article, strict=True)), SWAPPED),
        Published("LightGCN (paper)", {"recall@20": lightgcn}),
    )


def _diffmm(model: str, recall: float, ndcg: float) -> Published:
    return Published(f"{model} ({DIFFMM})", {"recall@20": recall, "ndcg@20": ndcg}, DIFFMM_NOTE)


PUBLISHED: Mapping[str, PublishedData] = {
    "baby": PublishedData(
        *(19_445, 7_050, 160_792, ("image", "text")),
        _amazon((0.0564, 0.0883, 0.0301, 0.0383), (0.0559, 0.0880, 0.0296, 0.0383), 0.0754),
    ),
    "sports": PublishedData(
        *(35_598, 18_357, 296_337, ("image", "text")),
        _amazon((0.0656, 0.0980, 0.0355, 0.0438), (0.0646, 0.0978, 0.0345, 0.0435), 0.0864),
    ),
    "electronics": PublishedData(
        *(192_403, 63_001, 1_689_188, ("image", "text")),
        _amazon((0.0437, 0.0648, 0.0247, 0.0302), (0.0434, 0.0643, 0.0247, 0.0301), 0.0540),
    ),
    "tiktok": PublishedData(
        *(9_308, 6_710, 68_722, ("image", "audio")),
        (
            Published(
                AUTHORS,
                dict(zip(HEADLINE, (0.0569, 0.0883, 0.0288, 0.0367), strict=True)),
                "The same files (image as image, audio as text); layers 1, dropout 0.5, reg_weight 0.1.",
            ),
            _diffmm("MF-BPR", 0.0346, 0.0130),
            _diffmm("LightGCN", 0.0653, 0.0282),
            _diffmm("VBPR", 0.0380, 0.0134),
            _diffmm("GRCN", 0.0804, 0.0350),
            _diffmm("LATTICE", 0.0843, 0.0367),
            _diffmm("SLMRec", 0.0845, 0.0353),
            _diffmm("BM3", 0.0957, 0.0404),
            _diffmm("DiffMM", 0.1129, 0.0456),
        ),
        {"recall@20": (0.0026, 3), "ndcg@20": (0.0010, 3)},
    ),
}


def published_for(card: Mapping[str, object], warnings: list[str]) -> tuple[Published, ...]:
    """The published figures of the dataset on a card of :func:`bm3_pyg.data.describe`.

    ``()`` where its counts are others than the published ones; that, and features that are absent, is added to
    ``warnings``.
    """
    name = str(card.get("name"))
    known = PUBLISHED.get(name)
    if known is None:
        return ()
    counts = {"users": known.users, "items": known.items, "interactions": known.interactions}
    if other := [key for key, count in counts.items() if card.get(key, count) != count]:
        differences = ", ".join(f"{card[key]:,} {key} (published {counts[key]:,})" for key in other)
        warnings.append(f"{name} is not the published data of that name: {differences}; published figures are left out")
        return ()
    modalities = card.get("modalities")
    present = modalities if isinstance(modalities, Mapping) else {}
    if absent := [feature for feature in known.features if feature not in present]:
        warnings.append(
            f"the published figures of {name} were reached with {' and '.join(absent)} features, which are absent here"
        )
    return known.figures
