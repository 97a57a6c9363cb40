"""What a card says about a dataset beside what was counted: source, licence, citation, known issues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bm3_pyg.data.amazon.sources import BASE, CATEGORIES
from bm3_pyg.data.graph import count, edges_of
from bm3_pyg.data.interactions import SPLITS

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

PUBLISHED = {  # users, items, interactions of the 5-core
    "baby": (19_445, 7_050, 160_792),
    "sports": (35_598, 18_357, 296_337),
    "electronics": (192_403, 63_001, 1_689_188),
}

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


def about(name: str, *, published: bool = False) -> str:
    """Markdown about the dataset; ``published``: with the split of an .inter file rather than one of our own."""
    return f"""\
Amazon {CATEGORIES[name].replace("_", " ")}, 2014 release: who reviewed what on Amazon up to July 2014.

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
    """A note if ``data``, which should be the published 5-core, has other counts."""
    found = count(data, "user"), count(data, "item"), sum(edges_of(data, split).size(1) for split in SPLITS)
    if found == PUBLISHED[name]:
        return []
    return [f"{name}: {_counts(*found)}; the published 5-core has {_counts(*PUBLISHED[name])}"]


def _counts(users: int, items: int, interactions: int) -> str:
    return f"{users:,} users, {items:,} items, {interactions:,} interactions"
