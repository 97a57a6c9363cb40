"""A dataset as one figure: degrees, splits, missing features and, where they are known, times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bm3_pyg.data.edges import edge_values, edges_of
from bm3_pyg.data.summary import describe
from bm3_pyg.errors import ConfigError
from bm3_pyg.files import atomic_file, check_parent
from bm3_pyg.names import SPLITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch_geometric.data import HeteroData

FORMATS = ("png", "svg")
# Okabe and Ito's palette, which the colour-blind can tell apart.
NODES = {"user": "#0072B2", "item": "#D55E00"}
PARTS = {"train": "#555555", "val": "#E69F00", "test": "#009E73"}
MISSING, PRESENT, TRACK = "#CC79A7", "#DDDDDD", "#F0F0F0"
STYLE: Any = {
    "axes.edgecolor": "#888888",
    "axes.labelsize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.titlesize": 10.5,
    "date.converter": "concise",
    "font.size": 9,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "bm3",
    "xtick.color": "#555555",
    "xtick.labelsize": 8.5,
    "ytick.color": "#555555",
    "ytick.labelsize": 8.5,
}
BINS = 60
YEARS = (1, 9999)  # that a calendar axis can show


def dataset_picture(data: HeteroData, path: str | Path) -> Path:
    """Draw ``data`` into ``path``, a ``.png`` or ``.svg`` file, and return the path.

    Panels: the share of users and of items with at least k training interactions, both axes logarithmic; interactions,
    users and items of each split; items without a feature, per modality; where the data has times, interactions over
    time for each split.

    Raises:
        ConfigError: The suffix is another, the folder is not there or matplotlib is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise ConfigError(f"{path}: a picture of type {path.suffix!r}, expected .png or .svg")
    check_parent(path)
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ConfigError('pictures need matplotlib: pip install "bm3-pyg[report]"') from error
    card, times = describe(data), _times(data)
    with matplotlib.rc_context(STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1, hspace=0.06, wspace=0.04)
        figure = Figure(figsize=(11, 8 if times else 5), layout=layout)
        rows: Any = [["degrees", "splits"], ["degrees", "features"], *([["times", "times"]] if times else [])]
        panels = figure.subplot_mosaic(rows)
        figure.suptitle(_title(card), x=0.012, ha="left", fontsize=12, parse_math=False)
        _draw_degrees(panels["degrees"], data, card)
        _draw_splits(panels["splits"], card)
        _draw_features(panels["features"], card)
        if times:
            _draw_times(panels["times"], times)
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=150, metadata={"Date": None} if suffix == "svg" else None)
    return path


def _title(card: dict[str, Any]) -> str:
    name = " ".join((card["name"] or "dataset").split())
    return (
        f"{name if len(name) <= 60 else name[:59] + '…'}: {card['users']:,} users, {card['items']:,} items, "
        f"{card['interactions']:,} interactions, {card['sparsity']:.2%} sparse"
    )


def _draw_degrees(axes: Axes, data: HeteroData, card: dict[str, Any]) -> None:
    train = edges_of(data, "train").numpy()
    for ends, (kind, colour) in zip(train, NODES.items(), strict=True):
        degrees, shares = at_least(np.bincount(ends, minlength=card[f"{kind}s"]))
        none = card["users_without_training" if kind == "user" else "cold_items"]
        label = f"{kind}s" + (f" ({none:,} of {card[f'{kind}s']:,} with none)" if none else "")
        axes.step(degrees, 100 * shares, color=colour, linewidth=1.2, marker="o", markersize=2, label=label)
    axes.set(xscale="log", yscale="log", title="Degrees")
    axes.set(xlabel="k, training interactions", ylabel="% of users or items with at least k")
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_major_formatter("{x:,g}")
        axis.set_minor_formatter("{x:,g}" if high < 10 * low else "")  # there may be no power of ten in between
    axes.grid(True)
    axes.legend(loc="best")


def at_least(degrees: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The distinct positive degrees k in ascending order, and the share of all nodes with a degree of k or more."""
    values, counts = np.unique(degrees, return_counts=True)
    shares = counts[::-1].cumsum()[::-1] / len(degrees)
    return values[values > 0], shares[values > 0]


def _draw_splits(axes: Axes, card: dict[str, Any]) -> None:
    labels = [
        f"{split}: {card['splits'][split]:,} interactions ({card['splits'][split] / card['interactions']:.1%}), "
        f"{card['split_users'][split]:,} users, {card['split_items'][split]:,} items"
        for split in SPLITS
    ]
    shares = [100 * card["splits"][split] / card["interactions"] for split in SPLITS]
    _draw_shares(axes, labels, shares, list(PARTS.values()), TRACK)
    axes.set(title="Splits", xlabel="% of interactions")


def _draw_features(axes: Axes, card: dict[str, Any]) -> None:
    known = card["modalities"]
    axes.set(title="Missing features" if known else "No item features", xlabel="% of items")
    if not known:
        axes.set_axis_off()
        return
    labels = [
        f"{name}, {kind['dim']:,}-d: {kind['missing']:,} items without ({kind['missing'] / card['items']:.1%})"
        for name, kind in known.items()
    ]
    shares = [100 * kind["missing"] / card["items"] for kind in known.values()]
    _draw_shares(axes, labels, shares, [MISSING] * len(known), PRESENT)


def _draw_shares(axes: Axes, labels: list[str], shares: list[float], colours: list[str], track: str) -> None:
    """A bar of 0 to 100% for each label, the first on top, its label above it."""
    rows = range(len(labels))
    axes.barh(rows, [100] * len(labels), height=0.3, color=track)
    axes.barh(rows, shares, height=0.3, color=colours)
    for row, label in enumerate(labels):
        axes.text(0, row - 0.24, label, va="bottom")
    axes.set(xlim=(0, 100), ylim=(len(labels) - 0.6, -0.75), yticks=[])
    axes.spines["left"].set_visible(False)


def _times(data: HeteroData) -> dict[str, NDArray[np.float64]]:
    """Unix seconds of the interactions of every split that has any."""
    known = {split: edge_values(data, "time", split) for split in SPLITS}
    return {
        split: times.numpy().astype(np.float64) for split, times in known.items() if times is not None and len(times)
    }


def _draw_times(axes: Axes, times: dict[str, NDArray[np.float64]]) -> None:
    first = min(float(seconds.min()) for seconds in times.values())
    last = max(float(seconds.max()) for seconds in times.values())
    edges = np.linspace(first, max(last, first + 1), BINS + 1)
    dates = _dates(edges)
    for split, seconds in times.items():
        counts, _ = np.histogram(seconds, edges)
        shown: Any = edges if dates is None else dates
        axes.stairs(counts, shown, color=PARTS[split], linewidth=1.3, label=split)
        axes.stairs(counts, shown, color=PARTS[split], alpha=0.12, fill=True)
    axes.set(title="Times", ylabel=f"interactions per {_duration(edges[1] - edges[0])}")
    axes.margins(x=0.01, y=0.25)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", integer=True)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.grid(True, axis="y")
    axes.legend(loc="upper left", ncols=len(times))
    axes.set_xlabel("Unix time in seconds" if dates is None else "date (UTC)")
    if dates is not None:
        axes.xaxis_date()


def _dates(seconds: NDArray[np.float64]) -> NDArray[Any] | None:
    """Days for matplotlib's calendar axis; none where the times are no seconds of our calendar's years."""
    days = seconds / 86400
    low, high = (np.datetime64(f"{year:04d}-01-01").astype("datetime64[D]").astype(int) for year in YEARS)
    return days if low < days[0] and days[-1] < high else None


def _duration(seconds: float) -> str:
    for unit, length in (("years", 365.25 * 86400), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            number = seconds / length
            return f"{number:.0f} {unit}" if number >= 10 else f"{number:.2g} {unit}"
    return f"{seconds:.3g} seconds"
