"""Raw files in Amazon's formats whose content is known: for tests, and to measure the readers at any size.

The ratings hold a 5-core of chosen size and, around it, what is to be peeled off: users of one to four ratings; items
that core users rated, three at most each; users of five ratings whose items fall before them, which takes three rounds.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]

CORE = 5
POOL = 64  # distinct image vectors
DAY = 86_400
DAYS = (10_000, 16_250)  # since 1970: 1997 to 2014
LINES = 1 << 16  # written at a time

TITLES = (
    "Baby Bottle, 8 oz",
    'The "Original" Teether',
    "L'Oréal Café Lotion",
    'Kinder\'s 3-in-1 "Deluxe" Seat',
    "雨の日 Umbrella 🌂",
    "Back\\slash & Tab\tStroller &amp; Co.",
    "Cable\nOrganiser",
)
BRANDS = (None, "", "Graco", "Fisher-Price", "Nûby", "Munchkin's")
CATEGORIES: tuple[list[list[str]] | None, ...] = (
    [["Baby", "Feeding", "Bottles & Cups"]],
    [["Baby"], ["Toys & Games", "Baby & Toddler Toys"]],
    [["Electronics", "Accessories & Supplies", 'Audio "& Video"', "Cables"], ["Electronics"]],
    [[]],
    None,
)
DESCRIPTIONS = (
    None,
    "",
    'Soft on gums.\nSafe in the dishwasher. It\'s "BPA free".',
    "Says 'asin': 'B000000000' on the box; " + "washable, " * 40,
    "Fits {most} [cars], 100 % cotton – naturally.",
)
RELATED = {"also_viewed": [f"B00I8H{number:04}" for number in range(60)], "bought_together": ["B007VB5U4W"]}
REVIEWS = (
    "Good.",
    'He said "wow" — twice',
    "Broke\tafter a week\nI'm sorry.",
    "Très bien 👍 " * 9,
    "ok " * 150,
    "It fits. " * 350,
)


@dataclass(frozen=True)
class Size:
    """How much raw files hold.

    Attributes:
        users: In the 5-core.
        items: In the 5-core.
        interactions: In the 5-core, without repeats: at least five times the greater of the two, and at most half of
            all pairs.
        ratings: Lines in the ratings, at least 1.01 times ``interactions``.
        meta_items: Items that have a line in meta, and as many with an image, in and outside the core; about 1 in 100
            of the core items has no line and another 1 in 100 no image.
    """

    users: int
    items: int
    interactions: int
    ratings: int
    meta_items: int


@dataclass(frozen=True)
class RawFiles:
    """Four raw files and the truth about them, as frames of user, item, rating, time or by item id."""

    reviews: Path  # reviews_CAT_5.json.gz: the lines of core
    ratings: Path  # ratings_CAT.csv: the lines of everything
    meta: Path  # meta_CAT.json.gz
    images: Path  # image_features_CAT.b
    core: pl.DataFrame  # the 5-core, each (user, item) once, in the order of the reviews
    everything: pl.DataFrame  # core, its rows repeated at the same or a later time, and what falls out of the 5-core
    texts: dict[str, str]  # of the core items that have a line in meta
    image_row: dict[str, int]  # row in pool, of the core items that have an image
    pool: NDArray[np.float32]  # [POOL, image_dim]


def write_raw(folder: Path, category: str, size: Size, *, seed: int = 0, image_dim: int = 4096) -> RawFiles:
    """Write ``reviews_CAT_5.json.gz``, ``ratings_CAT.csv``, ``meta_CAT.json.gz`` and ``image_features_CAT.b``.

    Args:
        folder: Where they go; it exists.
        category: CAT, such as ``Baby``.
        size: How much of everything.
        seed: Same seed, same files.
        image_dim: Numbers in an image feature; 4,096 in the real files.
    """
    rng = np.random.default_rng(seed)
    catalogue = 2 * size.meta_items + size.items
    item_ids = _item_ids(catalogue)
    core = _by_item(_core(rng, size))
    everything = _by_item(np.concatenate((core, _around(rng, core, size, catalogue - size.items)), axis=1))
    user_ids = _user_ids(int(everything[0].max()) + 1)
    files = RawFiles(
        folder / f"reviews_{category}_5.json.gz",
        folder / f"ratings_{category}.csv",
        folder / f"meta_{category}.json.gz",
        folder / f"image_features_{category}.b",
        _frame(core, user_ids, item_ids),
        _frame(everything, user_ids, item_ids),
        texts={},
        image_row={},
        pool=np.maximum(rng.standard_normal((POOL, image_dim), dtype=np.float32), 0),
    )
    _write_reviews(files.reviews, files.core)
    files.everything.write_csv(files.ratings, include_header=False)
    _write_meta(files, item_ids, _members(rng, size, catalogue), size.items)
    _write_images(files, item_ids, _members(rng, size, catalogue), size.items)
    return files


def _core(rng: np.random.Generator, size: Size) -> Ints:
    """[4, interactions]: user, item, rating, time; each pair once, each user and item at least CORE times."""
    users, items, interactions = size.users, size.items, size.interactions
    if min(users, items) < CORE or not CORE * max(users, items) <= interactions <= users * items // 2:
        raise ValueError(f"no {CORE}-core of {users:,} users, {items:,} items and {interactions:,} interactions")
    step = np.arange(CORE * max(users, items))
    if users >= items:
        keys = np.unique(step // CORE * items + step % items)
    else:
        keys = np.unique(step % users * items + step // CORE)
    while (short := interactions - len(keys)) > 0:
        popular = (items * rng.random(2 * short + 16) ** 2).astype(np.int64)
        drawn = np.setdiff1d(rng.integers(users, size=len(popular)) * items + popular, keys)
        keys = np.concatenate((keys, rng.permutation(drawn)[:short]))
    return _rated(rng, keys // items, keys % items)


def _around(rng: np.random.Generator, core: Ints, size: Size, outside: int) -> Ints:
    """The [4, n] rows beside the core that bring it to ``size.ratings`` rows."""
    users, items, ratings = size.users, size.items, size.ratings
    some = max(1, core.shape[1] // 500)
    same = core[:, rng.choice(core.shape[1], some, replace=False)]
    later = core[:, rng.choice(core.shape[1], some, replace=False)]
    later[3] += DAY * rng.integers(1, 100, size=some)
    spare = ratings - core.shape[1] - 2 * some
    if spare < 0:
        raise ValueError(f"{ratings:,} ratings are too few around {core.shape[1]:,} of the core")
    thin = np.arange(min(3 * outside, spare // 10)) % outside
    fall = np.arange(min(outside // CORE, spare // 100) * CORE)
    falling, at = np.divmod(fall, CORE)
    fallen = np.where(at == 0, falling % items, items + falling * (CORE - 1) + at - 1)
    few = spare - len(thin) - len(fall)
    loners = users + len(falling) // CORE + np.repeat(np.arange(few), rng.integers(1, CORE, size=few))[:few]
    return np.concatenate(
        (
            same,
            later,
            _rated(rng, rng.integers(users, size=len(thin)), items + thin),
            _rated(rng, users + falling, fallen),
            _rated(rng, loners, rng.integers(items + outside, size=few)),
        ),
        axis=1,
    )


def _rated(rng: np.random.Generator, users: Ints, items: Ints) -> Ints:
    n = len(users)
    return np.stack((users, items, rng.choice([1, 2, 3, 4, 4, 5, 5, 5], size=n), DAY * rng.integers(*DAYS, size=n)))


def _by_item(rows: Ints) -> Ints:
    """As in the real files: item after item, here each item's ratings by time."""
    return rows[:, np.lexsort((rows[3], rows[1]))]


def _frame(rows: Ints, user_ids: pl.Series, item_ids: pl.Series) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user": user_ids.gather(rows[0]),
            "item": item_ids.gather(rows[1]),
            "rating": pl.Series(rows[2]).cast(pl.Float32),
            "time": rows[3],
        }
    )


def _user_ids(n: int) -> pl.Series:
    return _base36("A", np.arange(n) * 1_000_000_000_039, 10)


def _item_ids(n: int) -> pl.Series:
    """Ten characters each; every tenth is all digits, with leading zeros."""
    numbers = np.arange(n)
    letters = _base36("B00", numbers * 7_368_787_001, 7)
    digits = pl.Series(numbers * 11 + 1).cast(pl.String).str.zfill(10)
    return letters.zip_with(pl.Series(numbers % 10 != 7), digits)


def _base36(prefix: str, numbers: Ints, width: int) -> pl.Series:
    """Distinct ids of distinct numbers, as long as these are multiples of one number prime to 36 and not too many."""
    letters = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", dtype="S1")
    powers = 36 ** np.arange(width)
    digits = letters[numbers[:, None] // powers % 36].view(f"S{width}")[:, 0]
    return prefix + pl.Series(digits.astype(str))


def _members(rng: np.random.Generator, size: Size, catalogue: int) -> Ints:
    """``meta_items`` items in random order: all of the core but 1 in 100 (one at least), the others from outside."""
    items, n = size.items, size.meta_items
    inside = rng.permutation(items)[max(1, items // 100) :][:n]
    outside = items + rng.permutation(catalogue - items)[: n - len(inside)]
    return rng.permutation(np.concatenate((inside, outside)))


def _write_reviews(path: Path, core: pl.DataFrame) -> None:
    texts = pl.Series([json.dumps(text, ensure_ascii=at % 2 == 0) for at, text in enumerate(REVIEWS)])
    with _compressed(path) as file:
        for start in range(0, core.height, LINES):
            part = core.slice(start, LINES)
            text = texts.gather(np.arange(start, start + part.height) % len(texts))
            line = pl.concat_str(
                pl.lit('{"reviewerID": "'),
                "user",
                pl.lit('", "asin": "'),
                "item",
                pl.lit('", "reviewerName": "J. \\"Jo\\" Doe", "helpful": [2, 3], "reviewText": '),
                text,
                pl.lit(', "overall": '),
                "rating",
                pl.lit(', "summary": "Works", "unixReviewTime": '),
                "time",
                pl.lit(', "reviewTime": "06 2, 2013"}\n'),
            )
            file.write("".join(part.select(line).to_series()).encode())


def _write_meta(files: RawFiles, item_ids: pl.Series, members: Ints, items: int) -> None:
    ids = item_ids.gather(members).to_list()
    with _compressed(files.meta) as file:
        for start in range(0, len(ids), LINES):
            lines = []
            for number, item in zip(members[start : start + LINES].tolist(), ids[start : start + LINES], strict=True):
                record, text = _product(number, item)
                lines.append(ascii(record) if number % 2 else repr(record))
                if number < items:
                    files.texts[item] = text
            file.write(("\n".join(lines) + "\n").encode())


def _product(number: int, item: str) -> tuple[dict[str, Any], str]:
    """A line of meta and the text it stands for; a part that is None is left out of the line."""
    title = f"{TITLES[number % len(TITLES)]} {number}" if number % 23 else None
    brand, paths = BRANDS[number % len(BRANDS)], CATEGORIES[number % len(CATEGORIES)]
    description = DESCRIPTIONS[number // 2 % len(DESCRIPTIONS)]
    record: dict[str, Any] = {"asin": item, "related": RELATED, "price": 9.99}
    parts = {"title": title, "brand": brand, "categories": paths, "description": description}
    record |= {key: value for key, value in parts.items() if value is not None}
    path = " ".join(paths[0]) if paths else ""
    text = f"{title or ''} {brand or ''} {path} {description or ''}"
    return record, text.replace("\n", " ").strip()


def _write_images(files: RawFiles, item_ids: pl.Series, members: Ints, items: int) -> None:
    """Record j holds row j mod POOL of the pool. The first core item stands at the end once more, with another."""
    order = np.append(members, members[members < items][:1])
    ids = item_ids.gather(order).to_list()
    block = np.empty(1024, dtype=[("asin", "S10"), ("values", "<f4", (files.pool.shape[1],))])
    with files.images.open("wb") as file:
        for start in range(0, len(order), len(block)):
            part = block[: len(order) - start]
            part["asin"] = ids[start : start + len(part)]
            part["values"] = files.pool[np.arange(start, start + len(part)) % POOL]
            file.write(part.tobytes())
    for at, number in enumerate(members.tolist()):
        if number < items:
            files.image_row[ids[at]] = at % POOL


def _compressed(path: Path) -> gzip.GzipFile:
    return gzip.GzipFile(path, "wb", compresslevel=1, mtime=0)
