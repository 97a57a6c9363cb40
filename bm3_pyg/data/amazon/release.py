"""Amazon's 2014 release: its datasets, their files and counts, and what a card says of them beside what was counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bm3_pyg.data.edges import count, edges_of
from bm3_pyg.errors import ConfigError, DataError, nearest, shown
from bm3_pyg.escape import markdown
from bm3_pyg.names import SPLITS

if TYPE_CHECKING:
    from pathlib import Path

    from torch_geometric.data import HeteroData

BASE = "https://snap.stanford.edu/data/amazon/productGraph"
CATEGORIES = {"baby": "Baby", "sports": "Sports_and_Outdoors", "electronics": "Electronics"}
PUBLISHED = {  # users, items, interactions of the 5-core
    "baby": (19_445, 7_050, 160_792),
    "sports": (35_598, 18_357, 296_337),
    "electronics": (192_403, 63_001, 1_689_188),
}
RATINGS = {"baby": 915_446, "sports": 3_268_695, "electronics": 7_824_482}  # rows of the release's ratings files
CORE_OF_REVIEWS = 5  # what reviews_CAT_5.json.gz was reduced to before it was published
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


def category_of(name: str) -> str:
    """The category of a dataset's name; a :class:`ConfigError` where it is not known."""
    if name not in CATEGORIES:
        raise ConfigError(f"name: got {shown(name)}, {nearest(name, CATEGORIES)}")
    return CATEGORIES[name]


def addresses(name: str) -> dict[str, str]:
    """Every raw file of a dataset and its address: reviews, ratings, meta, images, in this order."""
    category = category_of(name)
    return {
        f"reviews_{category}_5.json.gz": f"{BASE}/categoryFiles/reviews_{category}_5.json.gz",
        f"ratings_{category}.csv": f"{BASE}/categoryFiles/ratings_{category}.csv",
        f"meta_{category}.json.gz": f"{BASE}/categoryFiles/meta_{category}.json.gz",
        f"image_features_{category}.b": f"{BASE}/image_features/categoryFiles/image_features_{category}.b",
    }


def about(name: str, *, published: bool = False, doubt: str = "") -> str:
    """Markdown about a dataset.

    Args:
        name: Of the dataset.
        published: With the split of an .inter file rather than one of our own.
        doubt: What says that it is not the published dataset.
    """
    category = CATEGORIES[name].replace("_", " ")
    title = f"Amazon {category}, 2014 release: who reviewed what on Amazon up to July 2014."
    if doubt:
        title = (
            f"**This is not the published dataset.** The files are called as those of Amazon {category}, 2014 release, "
            f"of which the following is told, but hold something else, a part of it or another dataset: "
            f"{markdown(doubt)}. Do not cite it as the former."
        )
    return f"""\
{title}

- Source: J. McAuley's group, {BASE}/ (see https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html).
- Licence: none that is known here; the release's authors ask to cite the two papers below. Reviews, texts and images
  remain their owners'.
- J. McAuley, C. Targett, Q. Shi, A. van den Hengel. Image-based recommendations on styles and substitutes. SIGIR 2015.
- R. He, J. McAuley. Ups and downs: Modeling the visual evolution of fashion trends with one-class collaborative
  filtering. WWW 2016.
- Published counts of its 5-core: {_in_words(*PUBLISHED[name])}.

## Known issues

{PUBLISHED_SPLIT if published else OWN_SPLIT}"""


def compare_counts(name: str, data: HeteroData) -> list[str]:
    """A note if ``data``, which should be the published 5-core, has other counts.

    Raises:
        DataError: They are those of another dataset.
    """
    counts = _counts(data)
    if counts == PUBLISHED[name]:
        return []
    for other, published in PUBLISHED.items():
        if counts == published:
            raise DataError(
                f"{name}: the files hold {_in_words(*counts)}, which are {other}'s; prepare {other} from them"
            )
    return [f"{name}: {_in_words(*counts)}; the published 5-core has {_in_words(*PUBLISHED[name])}"]


def compare_rows(name: str, file: str, rows: int) -> list[str]:
    """A note if a file of raw interactions has more or fewer rows than the release's.

    Raises:
        DataError: They are as many as another dataset's.
    """
    released = {
        other: counts[2] if file.startswith("reviews_") else RATINGS[other] for other, counts in PUBLISHED.items()
    }
    if rows == released[name]:
        return []
    for other, theirs in released.items():
        if rows == theirs:
            raise DataError(f"{file}: {rows:,} interactions, which are {other}'s; prepare {other} from them")
    return [f"{file}: {rows:,} interactions; the release's has {released[name]:,}"]


def refuse_other_split(name: str, inter: Path, data: HeteroData) -> None:
    """Raise :class:`DataError` if an .inter file's name or counts say that it is not the published one of ``name``."""
    counts, called = _counts(data), ALIASES.get(inter.stem.lower(), inter.stem.lower())
    if called in PUBLISHED and called != name:
        wrong = f"is called as {called}'s"
    elif counts != PUBLISHED[name]:
        same = [other for other, published in PUBLISHED.items() if published == counts]
        wrong = f"holds {_in_words(*counts)}{f', as does {same[0]}' if same else ''}"
    else:
        return
    raise DataError(
        f"{inter}: {wrong}, expected {name} with {_in_words(*PUBLISHED[name])}; "
        f"other folders with an .inter file need no preparing, bm3 train takes them as they are"
    )


def _counts(data: HeteroData) -> tuple[int, int, int]:
    return count(data, "user"), count(data, "item"), sum(edges_of(data, split).size(1) for split in SPLITS)


def _in_words(users: int, items: int, interactions: int) -> str:
    return f"{users:,} users, {items:,} items, {interactions:,} interactions"
