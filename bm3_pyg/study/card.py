"""A dataset's card for a report; of a card that runs kept, only what they knew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bm3_pyg.data.prepared import facts
from bm3_pyg.names import SPLITS


def card_facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each fact of :func:`bm3_pyg.data.describe` that is there, but counts of splits and hashes."""
    found = [("name", str(card["name"]))] if card.get("name") else []
    if "users" in card:
        found += facts(card)
        leaks = ", ".join(f"{count:,} ({where})" for where, count in card["leaks"].items() if count)
        found.append(("interactions in two splits", leaks or "none"))
    else:
        found += [(f"feature {name}", f"{one['dim']:,}-d") for name, one in card.get("modalities", {}).items()]
    return found


def card_files(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each file the dataset was made from with its hash, and the dataset's own."""
    found = [(f"SHA-256 of {name}", str(digest)) for name, digest in card.get("files", {}).items()]
    return found + ([("fingerprint", str(card["fingerprint"]))] if card.get("fingerprint") else [])


def card_splits(card: Mapping[str, Any]) -> list[tuple[str, list[int | None]]]:
    """Of each split: interactions, their users, their items, and interactions that stand in it more than once."""
    counts = [card.get(key, {}) for key in ("splits", "split_users", "split_items", "duplicates")]
    return [(split, [count.get(split) for count in counts]) for split in SPLITS if split in counts[0]]
