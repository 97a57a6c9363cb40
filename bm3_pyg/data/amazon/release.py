"""What a card says about a dataset beside what was counted: source, licence, citation, known issues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bm3_pyg.data.amazon.raw_files import BASE, CATEGORIES
from bm3_pyg.data.edges import count, edges_of
from bm3_pyg.errors import DataError
from bm3_pyg.escape import markdown
from bm3_pyg.names import SPLITS

if TYPE_CHECKING:
    from pathlib import Path

    from torch_geometric.data import HeteroData

PUBLISHED = {  # users, items, interactions of the 5-core
    "baby": (19_445, 7_050, 160_792),
    "sports": (35_598, 18_357, 296_337),
    "electronics": (192_403, 63_001, 1_689_188),
}
RATINGS = {"baby": 915_446, "sports": 3_268_695, "electronics": 7_824_482}  # rows of the release's ratings files
ALIASES = {"elec": "electronics"}  # what MMRec calls it

OWN_SPLIT = """\
- The published random split was drawn without a seed: it exists only in the authors' own `.inter` files. The split here
  follows the same rule and is the same for the same seed, but it is another draw, so results compare with published
  tables only up to the split. To get the published one, prepare from MMRec's folder (`--from DIR`).
- A review counts as an interaction whatever its rating. Times are whole days.
- Items without an image or a text have the mean of the others; `*_missing.npy` marks them."""
PUBLISHED_SPLIT = """\
- Interactions, split and features are those of the `.inter` file and the arrays beside it, as they are. The published
  random split was drawn without a seed: it exists only in the authors' own files. Which features were filled in is
  known only where a `*_missing.npy` says so."""


def about(name: str, *, published: bool = False, doubt: str = "") -> str:
    """Markdown about the dataset.

    Args:
        name: Of the dataset.
        published: With the split of an .inter file rather than one of our own.
        doubt: What says that it is not the published dataset.
    """
    title = f"Amazon {CATEGORIES[name].replace('_', ' ')}, 2014 release: who reviewed what on Amazon up to July 2014."
    if doubt:
        title = (
            f"**This is not the published dataset.** The files are called as those of Amazon "
            f"{CATEGORIES[name].replace('_', ' ')}, 2014 release, of which the following is told, but hold something "
            f"else, a part of it or another dataset: {markdown(doubt)}. Do not cite it as the former."
        )
    return f"""\
{title}

- Source: J. McAuley's group, {BASE}/ (see https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html).
- Licence: none that is known here; the release's authors ask to cite the two papers below. Reviews, texts and images
  remain their owners'.
- J. McAuley, C. Targett, Q. Shi, A. van den Hengel. Image-based recommendations on styles and substitutes. SIGIR 2015.
- R. He, J. McAuley. Ups and downs: Modeling the visual evolution of fashion trends with one-class collaborative
  filtering. WWW 2016.
- Published counts of its 5-core: {_counts(*PUBLISHED[name])}.

## Known issues

{PUBLISHED_SPLIT if published else OWN_SPLIT}"""


def other_counts(name: str, data: HeteroData) -> list[str]:
    """A note if ``data``, which should be the published 5-core, has other counts.

    Raises:
        DataError: They are those of another dataset.
    """
    found = _found(data)
    if found == PUBLISHED[name]:
        return []
    for other, counts in PUBLISHED.items():
        if found == counts:
            raise DataError(f"{name}: the files hold {_counts(*found)}, which are {other}'s; prepare {other} from them")
    return [f"{name}: {_counts(*found)}; the published 5-core has {_counts(*PUBLISHED[name])}"]


def other_release(name: str, file: str, read: int) -> list[str]:
    """A note if a file of raw interactions has more or fewer rows than the release's.

    Raises:
        DataError: They are as many as another dataset's.
    """
    released = {
        other: counts[2] if file.startswith("reviews_") else RATINGS[other] for other, counts in PUBLISHED.items()
    }
    if read == released[name]:
        return []
    for other, rows in released.items():
        if read == rows:
            raise DataError(f"{file}: {read:,} interactions, which are {other}'s; prepare {other} from them")
    return [f"{file}: {read:,} interactions; the release's has {released[name]:,}"]


def refuse_other_split(name: str, inter: Path, data: HeteroData) -> None:
    """Raise :class:`DataError` if an .inter file's name or counts say that it is not the published one of ``name``."""
    found, called = _found(data), ALIASES.get(inter.stem.lower(), inter.stem.lower())
    if called in PUBLISHED and called != name:
        wrong = f"is called as {called}'s"
    elif found != PUBLISHED[name]:
        same = [other for other, counts in PUBLISHED.items() if counts == found]
        wrong = f"holds {_counts(*found)}{f', as does {same[0]}' if same else ''}"
    else:
        return
    raise DataError(
        f"{inter}: {wrong}, expected {name} with {_counts(*PUBLISHED[name])}; "
        f"other folders with an .inter file need no preparing, bm3 train takes them as they are"
    )


def _found(data: HeteroData) -> tuple[int, int, int]:
    return count(data, "user"), count(data, "item"), sum(edges_of(data, split).size(1) for split in SPLITS)


def _counts(users: int, items: int, interactions: int) -> str:
    return f"{users:,} users, {items:,} items, {interactions:,} interactions"
