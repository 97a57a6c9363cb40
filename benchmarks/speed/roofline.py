"""Bytes and operations of a training step on a GPU, over a card's two ceilings. Arithmetic: nothing is run.

    python benchmarks/speed/roofline.py                                  # an A100 and an H200, all sizes
    python benchmarks/speed/roofline.py --bandwidth 3.0 --flops 60       # another card: TB/s, and TFLOP/s of float32
    python benchmarks/speed/roofline.py --measure baby                   # the figures of SIZES, from the data

gpu.md beside this file says what follows from it, and what is not measured.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

BATCH, D, WORD = 2048, 64, 4
TERMS = 198  # of a sleeping row's sum, in float32
SHORT = 8  # terms, up to which the sum is taken itself

# Instructions of a thread with 8 columns, in the machine code of catch_up_rows for sm_90: the frame, a term, the rule.
FRAME, TERM, RULE, COLUMNS = 110, 102, 626, 8
# Bytes that ranking moves for a score: product 4, nan_to_num_ 8, top-k at least 24.
SCORE_BYTES = 36


@dataclass(frozen=True)
class Size:
    """A planted dataset as training sees it; ``--measure`` prints the last six.

    Attributes:
        interactions: of training.
        items_in_batch: distinct items of a batch.
        terms: of S that a place of a batch sums, on average.
        long: share of the places with more than SHORT terms.
        short_terms: of the other places, summed and spread over all.
    """

    users: int
    items: int
    layers: int
    interactions: int
    items_in_batch: int
    terms: float
    long: float
    short_terms: float
    dims: tuple[int, ...] = (4096, 384)


SIZES = {
    "baby": Size(19_445, 7_050, 1, 118_740, 1_540, 2.98, 0.101, 1.50),
    "sports": Size(35_598, 18_357, 1, 218_998, 1_770, 8.41, 0.311, 1.58),
    "electronics": Size(192_403, 63_001, 2, 1_263_570, 1_876, 28.91, 0.547, 1.11),
}


@dataclass(frozen=True)
class Card:
    """Ceilings: bytes a second of memory, float32 operations a second without tensor cores, bytes of L2."""

    bandwidth: float
    flops: float
    l2: float = 50e6


CARDS = {"A100": Card(2.0e12, 19.5e12, 40e6), "H200": Card(4.8e12, 67e12)}


@dataclass(frozen=True)
class Work:
    """Of one kernel, or of several that do one thing: bytes, and instructions of a lane, a multiply-add being one."""

    name: str
    bytes: float
    operations: float = 0.0

    def seconds(self, card: Card) -> float:
        return max(self.bytes / card.bandwidth, self.operations / (card.flops / 2))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bandwidth", type=float, metavar="TB/s")
    parser.add_argument("--flops", type=float, metavar="TFLOP/s", help="of float32, without tensor cores")
    parser.add_argument("--measure", choices=list(SIZES), help="only print what the data of this size says")
    args = parser.parse_args()
    if args.measure:
        print(measured(args.measure))
        return 0
    if (args.bandwidth is None) != (args.flops is None):
        parser.error("--bandwidth and --flops go together")
    cards = {"card": Card(args.bandwidth * 1e12, args.flops * 1e12)} if args.bandwidth else CARDS
    for name, size in SIZES.items():
        print(f"\n{name}, {size.layers} layer(s), batch {BATCH:,}\n")
        print("\n".join([*table(step(size), cards), *totals(size, cards)]), end="\n\n")
        print("\n".join(table(others(size), cards)))
    return 0


def step(size: Size, in_l2: Card | None = None) -> list[Work]:
    """The parts of a step. Each row that a product of the graph reads comes from memory, or, given a card, its table is
    read once where L2 holds it."""
    users, items = (count * D * WORD for count in (size.users, size.items))
    nodes = users + items

    def half_product(table: float) -> float:
        gathered = table if in_l2 and table <= in_l2.l2 else size.interactions * D * WORD
        return gathered + 2 * WORD * size.interactions

    products = size.layers * (half_product(users) + half_product(items) + 2 * nodes)  # an operand in, the result out
    multiply_adds = size.layers * (2 * size.interactions + size.users + size.items) * D
    rows = (2 + len(size.dims)) * BATCH * D
    works = [
        Work("propagation, forward", products, multiply_adds),
        Work("norms, and their gradient", 3 * nodes),
        Work("propagation, backward", products, multiply_adds),
        Work("loss", 8 * rows * WORD, 3 * rows * D),
        Work("Adam on ids", 7 * nodes, 7 * nodes / WORD),
    ]
    for dim in size.dims:
        row, moved = BATCH * dim * WORD, size.items_in_batch * dim * WORD
        works += [
            Work(f"catch up, {dim}", 4 * row, catch_up(size, dim)),
            Work(f"three products, {dim}", 3 * row, 3 * BATCH * dim * D),
            Work(f"update, {dim}", 7 * moved, 12 * moved / WORD),
        ]
    return works


def catch_up(size: Size, dim: int, by_terms: bool = False) -> float:
    """Instructions of lanes; ``by_terms`` if every sum were taken itself."""
    each = FRAME + (size.terms * TERM if by_terms else size.short_terms * TERM + size.long * RULE)
    return BATCH * dim / COLUMNS * each


def others(size: Size) -> list[Work]:
    """The ranking of all users, as it is and as one kernel could do it; the other way of catching up."""
    scores = size.users * size.items
    return [
        Work("ranking as it is", SCORE_BYTES * scores, scores * D),
        Work("ranking in one kernel", D * WORD * (size.users + size.items), scores * D),
        Work("catch up by terms, 4096", 4 * BATCH * 4096 * WORD, catch_up(size, 4096, by_terms=True)),
    ]


def table(works: list[Work], cards: dict[str, Card]) -> list[str]:
    heads = [f"{name}: memory, arithmetic, us" for name in cards]
    lines = ["| | MB | M operations | " + " | ".join(heads) + " |", "|---" * (3 + len(cards)) + "|"]
    for work in works:
        times = [(work.bytes / card.bandwidth, work.operations / (card.flops / 2)) for card in cards.values()]
        cells = [" / ".join(f"{seconds * 1e6:,.0f}" for seconds in pair) for pair in times]
        cells = [f"{work.bytes / 1e6:,.0f}", f"{work.operations / 1e6:,.0f}", *cells]
        lines.append(f"| {work.name} | " + " | ".join(cells) + " |")
    return lines


def totals(size: Size, cards: dict[str, Card]) -> list[str]:
    """Rows for the whole step: products read rows from memory, or from L2 where the table that they read fits there."""
    apart = [f"**{sum(work.seconds(card) for work in step(size)) * 1e6:,.0f}**" for card in cards.values()]
    fits = [f"**{sum(work.seconds(card) for work in step(size, card)) * 1e6:,.0f}**" for card in cards.values()]
    moved = f"{sum(work.bytes for work in step(size)) / 1e6:,.0f}"
    return [f"| **the step** | {moved} | | {' | '.join(apart)} |", f"| **tables in L2** | | | {' | '.join(fits)} |"]


def measured(name: str) -> str:
    """Two epochs of batches after two others, from the training interactions of the planted dataset."""
    import numpy as np

    import bm3_pyg

    items = bm3_pyg.load_dataset(f"planted-{name}")["user", "rates", "item"].edge_index[1].numpy()
    rng, last, now = np.random.default_rng(0), np.zeros(SIZES[name].items, dtype=np.int64), 0
    slept, distinct = [], []
    for epoch in range(4):
        for batch in np.array_split(rng.permutation(items), range(BATCH, len(items), BATCH)):
            now += 1
            if epoch >= 2 and len(batch) == BATCH:
                slept.append(np.where(last[batch] > 0, np.minimum(now - 1 - last[batch], TERMS), 0))
                distinct.append(len(np.unique(batch)))
            last[batch] = now
    terms = np.concatenate(slept)
    short = np.where(terms <= SHORT, terms, 0).mean()
    return (
        f"{len(items):,} interactions, {np.mean(distinct):,.0f} items in a batch; terms {terms.mean():.2f}, "
        f"more than {SHORT} in {(terms > SHORT).mean():.3f}, the others {short:.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
