"""Planted data: made on the spot, with structure that a model of latent factors finds and popularity alone does not.

Users and items have 16 latent factors around shared cluster centres. An interaction comes about as in a shop: a user
meets items by popularity, some in the cluster of their own taste, and keeps those of the highest affinity. Features mix
the items' factors with noise. Whatever decides an interaction or a feature is elementwise arithmetic in a fixed order,
so that a seed gives the same data on every machine, which matrix products would not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bm3_pyg.data.features import fill_missing, missing_note
from bm3_pyg.data.hetero import build
from bm3_pyg.data.splits import Interactions, random_split

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

Floats = NDArray[np.float32]

FACTORS = 16
LEAST = 5  # interactions per user
ANCHORS = 4  # interactions an item gets whatever its popularity, so that few items stay without any
OVERDRAW = 4  # candidates a user meets for each one kept
AFFINITY = 0.25  # per unit of the factors' inner product; the noise beside it has spread 1
AT_HOME = 0.2  # share of the items met that are of the user's own taste
COLD, MISSING = 0.01, 0.05


@dataclass(frozen=True)
class Size:
    """What a planted dataset counts; the features' dimensions by modality."""

    users: int
    items: int
    interactions: int
    features: dict[str, int]


_SHOP = {"image": 4096, "text": 384}
SIZES = {
    "demo": Size(2_000, 1_000, 30_000, {"image": 128, "text": 32}),
    "planted-baby": Size(19_445, 7_050, 160_792, _SHOP),
    "planted-sports": Size(35_598, 18_357, 296_337, _SHOP),
    "planted-electronics": Size(192_403, 63_001, 1_689_188, _SHOP),
}
PLANTED = tuple(SIZES)


def make_planted(name: str, seed: int) -> HeteroData:
    """The planted dataset called ``name``, one of :data:`PLANTED`; the same ``seed`` gives the same data.

    About 1% of the items occur in no interaction, and about 5% have no feature in a modality (filled with the mean).
    """
    size = SIZES[name]
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((FACTORS, round(size.items**0.5)), dtype=np.float32)
    taste = rng.integers(centres.shape[1], size=size.users)
    kind = rng.integers(centres.shape[1], size=size.items)
    user_factors, item_factors = _factors(rng, centres, taste), _factors(rng, centres, kind)
    users, items = _interactions(rng, size, taste, kind, user_factors, item_factors)
    features, notes = {}, []
    for modality, dim in size.features.items():
        values = _feature_values(rng, item_factors, dim, rectified=modality == "image")
        missing = np.zeros(size.items, dtype=bool)
        missing[rng.choice(size.items, round(MISSING * size.items), replace=False)] = True
        fill_missing(values, missing)
        features[modality] = values, missing
        notes.append(missing_note(modality, int(missing.sum()), size.items))
    return build(
        name,
        Interactions(users, items, random_split(users, seed)),
        user_ids=np.arange(size.users),
        item_ids=np.arange(size.items),
        features=features,
        files={},
        notes=notes,
    )


def _factors(rng: np.random.Generator, centres: Floats, cluster: NDArray[np.int64]) -> Floats:
    """Latent factors [FACTORS, n], each node near the centre of its ``cluster`` [n]."""
    own = rng.standard_normal((FACTORS, len(cluster)), dtype=np.float32)
    return np.float32(0.8) * centres[:, cluster] + np.float32(0.6) * own


def _interactions(
    rng: np.random.Generator,
    size: Size,
    taste: NDArray[np.int64],
    kind: NDArray[np.int64],
    user_factors: Floats,
    item_factors: Floats,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct (user, item) pairs, sorted, exactly ``size.interactions`` of them."""
    warm = np.sort(rng.permutation(size.items)[round(COLD * size.items) :])
    wanted = _activity(rng, size, most=len(warm) // 4)
    anchors = _distinct(_anchors(rng, size, warm, user_factors, item_factors))
    keys = _distinct(np.concatenate((anchors, _candidates(rng, size, warm, wanted, taste, kind))))
    users, items = np.divmod(keys, size.items)
    score = _affinity(user_factors, item_factors, users, items) + rng.standard_normal(len(keys), dtype=np.float32)
    score[np.searchsorted(keys, anchors)] += 1000
    order = np.lexsort((-score, users))
    met = np.bincount(users, minlength=size.users)
    rank = np.arange(len(keys)) - (np.cumsum(met) - met)[users]
    best = np.sort(order[rank < wanted[users]])
    return users[best], items[best]


def _distinct(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """What ``np.unique`` gives, several times faster on tens of millions of keys."""
    keys = np.sort(keys)
    first = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return keys[first]


def _activity(rng: np.random.Generator, size: Size, most: int) -> NDArray[np.int64]:
    """Interactions per user [U]: at least LEAST, at most ``most``, log-normal above, ``size.interactions`` in all."""
    draw = rng.lognormal(sigma=1.2, size=size.users)
    spare = size.interactions - LEAST * size.users
    wanted = np.minimum(LEAST + np.floor(draw / draw.sum() * spare).astype(np.int64), most)
    while (left := size.interactions - int(wanted.sum())) > 0:
        below = rng.permutation(np.flatnonzero(wanted < most))
        wanted[below[:left]] += 1
    return np.asarray(wanted)


def _candidates(
    rng: np.random.Generator,
    size: Size,
    warm: NDArray[np.int64],
    wanted: NDArray[np.int64],
    taste: NDArray[np.int64],
    kind: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Keys (user x I + item) of the items that users meet by popularity, at least ``wanted`` [U] distinct ones each.

    A share AT_HOME of them comes from the cluster of the user's own taste.
    """
    weight = rng.permutation((np.arange(len(warm)) + 10.0) ** -0.8)
    order = np.argsort(kind[warm], kind="stable")
    law = np.concatenate(([0.0], np.cumsum(weight[order])))
    bounds = law[np.searchsorted(kind[warm][order], np.arange(kind.max() + 2))]
    keys = np.empty(0, dtype=np.int64)
    short = np.arange(size.users)
    while len(short):
        users = np.repeat(short, OVERDRAW * wanted[short])
        home = rng.random(len(users)) < AT_HOME
        low = np.where(home, bounds[taste[users]], 0)
        high = np.where(home, bounds[taste[users] + 1], law[-1])
        met = np.searchsorted(law, low + rng.random(len(users)) * (high - low), side="right") - 1
        keys = _distinct(np.concatenate((keys, users * size.items + warm[order[np.minimum(met, len(warm) - 1)]])))
        short = np.flatnonzero(np.bincount(keys // size.items, minlength=size.users) < wanted)
    return keys


def _anchors(
    rng: np.random.Generator, size: Size, warm: NDArray[np.int64], user_factors: Floats, item_factors: Floats
) -> NDArray[np.int64]:
    """Keys of ANCHORS interactions for each warm item, each with the best suited of eight users drawn."""
    items = np.tile(np.repeat(warm, ANCHORS), (8, 1))
    users = rng.integers(size.users, size=items.shape)
    fit = _affinity(user_factors, item_factors, users, items)
    chosen = users[fit.argmax(axis=0), np.arange(items.shape[1])]
    return np.asarray(chosen * size.items + items[0])


def _affinity(user_factors: Floats, item_factors: Floats, users: NDArray[np.int64], items: NDArray[np.int64]) -> Floats:
    """Inner products of factors [FACTORS, .], scaled so that their spread is that of the noise."""
    total = np.zeros(users.shape, dtype=np.float32)
    for p, q in zip(user_factors, item_factors, strict=True):
        total += p[users] * q[items]
    return total * np.float32(AFFINITY)


def _feature_values(rng: np.random.Generator, item_factors: Floats, dim: int, *, rectified: bool) -> Floats:
    """Features [I, dim]: each a mix of two latent factors and noise, cut off at zero where ``rectified``."""
    axes = rng.integers(len(item_factors), size=(2, dim))
    weights = rng.standard_normal((2, dim), dtype=np.float32)
    factors = np.ascontiguousarray(item_factors.T)
    values = np.empty((len(factors), dim), dtype=np.float32)
    part = np.empty((64, dim), dtype=np.float32)
    for start in range(0, len(factors), 64):
        block = values[start : start + 64]
        rng.standard_normal(dtype=np.float32, out=block)
        block *= np.float32(0.5)
        for axis, weight in zip(axes, weights, strict=True):
            mixed = np.take(factors[start : start + 64], axis, axis=1, out=part[: len(block)], mode="clip")
            mixed *= weight
            block += mixed
        if rectified:
            np.maximum(block, 0, out=block)
    return values
