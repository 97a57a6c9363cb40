"""Tables that read well on a terminal and are Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from bm3_pyg.data.interactions import SPLITS

NAMES = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "hitrate": "HitRate"}
HEADLINE = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


def metrics_table(rows: Mapping[str, Mapping[str, float]], metrics: Sequence[str] = HEADLINE) -> str:
    """One row a name, one column a metric, four decimals; a metric that a row lacks stays empty."""
    body = [[name, *(_cell(values.get(metric)) for metric in metrics)] for name, values in rows.items()]
    headers = ["", *(title(metric) for metric in metrics)]
    return tabulate(
        body, headers, tablefmt="github", disable_numparse=True, colalign=["left"] + ["right"] * len(metrics)
    )


def title(metric: str) -> str:
    name, at, cutoff = metric.partition("@")
    return NAMES.get(name, name.capitalize()) + at + cutoff


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def description(card: Mapping[str, Any]) -> str:
    """The dataset card of :func:`bm3_pyg.data.describe` as text."""
    facts = [
        ("users", f"{card['users']:,}"),
        ("items", f"{card['items']:,}"),
        ("interactions", f"{card['interactions']:,}"),
        ("  train, val, test", _each(card["splits"])),
        ("  their users", _each(card["split_users"])),
        ("  their items", _each(card["split_items"])),
        ("  repeated in a split", _some(card["duplicates"])),
        ("  in two splits", _some(card["leaks"])),
        ("sparsity", f"{card['sparsity']:.4%}"),
    ]
    for split, (first, last) in card["time"].items():
        facts.append((f"dates of {split}, UTC", f"{_date(first)} to {_date(last)}"))
    for kind, degree in card["degrees"].items():
        spread = f"{degree['min']:,} to {degree['max']:,}, median {degree['median']:g}, mean {degree['mean']:.1f}"
        facts.append((f"training interactions per {kind}", spread))
    facts.append(("users without training", f"{card['users_without_training']:,}"))
    facts.append(("items without training", f"{card['cold_items']:,}"))
    for name, modality in card["modalities"].items():
        facts.append((f"feature {name}", f"{modality['dim']:,}-d, {modality['missing']:,} items without"))
    facts += [(f"sha256 of {name}", digest) for name, digest in card["files"].items()]
    facts.append(("fingerprint", card["fingerprint"]))
    return f"{card['name'] or 'dataset'}\n{tabulate(facts, tablefmt='plain', disable_numparse=True)}"


def _each(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[split]:,}" for split in SPLITS)


def _some(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} ({where})" for where, count in counts.items() if count) or "none"


def _date(seconds: float) -> str:
    return str(np.datetime64(int(seconds), "s").astype("datetime64[D]"))
