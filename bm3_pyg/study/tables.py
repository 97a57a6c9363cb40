"""Tables that read well on a terminal and are Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from bm3_pyg.data.prepared import facts
from bm3_pyg.names import SPLITS
from bm3_pyg.study.content import HEADLINE, metric_title


def metrics_table(rows: Mapping[str, Mapping[str, float]], metrics: Sequence[str] = HEADLINE) -> str:
    """One row a name, one column a metric, four decimals; a metric that a row lacks stays empty."""
    body = [[name, *(_cell(values.get(metric)) for metric in metrics)] for name, values in rows.items()]
    headers = ["", *(metric_title(metric) for metric in metrics)]
    return tabulate(
        body, headers, tablefmt="github", disable_numparse=True, colalign=["left"] + ["right"] * len(metrics)
    )


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def description(card: Mapping[str, Any]) -> str:
    """The dataset card of :func:`bm3_pyg.data.describe` as text."""
    rows = [
        *facts(card),
        ("train, val, test", _each(card["splits"])),
        ("their users", _each(card["split_users"])),
        ("their items", _each(card["split_items"])),
        ("repeated in a split", _some(card["duplicates"])),
        ("in two splits", _some(card["leaks"])),
        *((f"sha256 of {name}", digest) for name, digest in card["files"].items()),
        ("fingerprint", card["fingerprint"]),
    ]
    return f"{card['name'] or 'dataset'}\n{tabulate(rows, tablefmt='plain', disable_numparse=True)}"


def _each(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[split]:,}" for split in SPLITS)


def _some(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} ({where})" for where, count in counts.items() if count) or "none"
