"""The plots of a report, as SVG for its page: colours follow its theme, text stays text, ids are unique."""

from __future__ import annotations

import functools
import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, ParamSpec

from bm3_pyg.errors import ConfigError
from bm3_pyg.study.content import Ablation, Curve, Stratum, metric_title
from bm3_pyg.study.picture import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


P = ParamSpec("P")
# Okabe and Ito's hues, dark enough for white paper; the page gives lighter ones on a dark ground.
SERIES = ("#0072b2", "#d55e00", "#008a64", "#b8588f", "#a87400", "#3a93c8", "#777777", "#4b3fa0")
INK, GRID, GROUND = "#010203", "#040506", "#fdfcfb"
THEME = {
    INK: "currentColor",
    GRID: "var(--line, #ddd)",
    GROUND: "var(--ground, #fff)",
    **{colour: f"var(--series-{place}, {colour})" for place, colour in enumerate(SERIES, 1)},
}
WIDTH = 8.6  # inches; the page scales it
RULES: Any = {
    **STYLE,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "grid.color": GRID,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def themed(draw: Callable[P, str]) -> Callable[P, str]:
    """Draw in the style of our plots."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> str:
        try:
            from matplotlib import rc_context
        except ImportError as error:
            raise ConfigError('a report\'s plots need matplotlib: pip install "bm3-pyg[report]"') from error
        with rc_context(RULES):
            return draw(*args, **kwargs)

    return drawn


def new_figure(height: float) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, hspace=0.04))


def page_svg(figure: Figure, prefix: str, name: str, description: str) -> str:
    """The figure as an SVG element for a page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    start, _, body = file.getvalue().partition("<svg")[2].partition(">")
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)  # is for the whole page
    body = re.sub(r"<[^>]+>", lambda tag: _fitted(tag.group(), prefix), body)
    box = re.findall(r'viewBox="[^"]*"', start)[0]
    head = f'<svg {box} role="img" aria-labelledby="{prefix}-title {prefix}-desc">'
    words = f'<title id="{prefix}-title">{escape(name)}</title><desc id="{prefix}-desc">{escape(description)}</desc>'
    return head + words + body


def _fitted(tag: str, prefix: str) -> str:
    """A tag with ids of its own, the page's colours and no more decimals than one can see."""
    tag = re.sub(r'\bid="', f'id="{prefix}-', tag)
    tag = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', tag).replace("url(#", f"url(#{prefix}-")
    tag = re.sub(r"\d+\.\d{3,}", lambda digits: f"{float(digits[0]):.2f}", tag)
    for colour, themed in THEME.items():
        tag = tag.replace(colour, themed)
    return tag


@themed
def validation_curves(curves: Sequence[Curve], prefix: str) -> str:
    """Validation Recall@20 over epochs: a panel a label, a line a seed, a dot at the selected epoch."""
    figure, panels = _panels([curve.label for curve in curves])
    for curve in curves:
        axes = panels[curve.label]
        axes.plot(curve.epochs, curve.validation, color=SERIES[0], linewidth=0.9, alpha=0.85)
        at = dict(zip(curve.epochs, curve.validation, strict=True))
        if curve.selected in at:
            axes.plot([curve.selected], [at[curve.selected]], "o", color=SERIES[1], markersize=4.5, zorder=3)
    description = "; ".join(
        f"{curve.label}, seed {curve.seed}: highest {max(curve.validation):.4f}, selected epoch {curve.selected}"
        for curve in curves
    )
    figure.supylabel("validation Recall@20", fontsize=9)
    return page_svg(figure, prefix, "Validation Recall@20 over epochs", description)


@themed
def loss_curves(curves: Sequence[Curve], prefix: str) -> str:
    """Losses over epochs: a panel a label, a colour a component, a line a seed; logarithmic if none is negative."""
    figure, panels = _panels([curve.label for curve in curves])
    names = list(dict.fromkeys(name for curve in curves for name, values in curve.losses.items() if any(values)))
    colours = {name: SERIES[place % len(SERIES)] for place, name in enumerate(names)}
    for curve in curves:
        for name in (name for name in names if name in curve.losses):
            values = curve.losses[name]
            panels[curve.label].plot(range(1, len(values) + 1), values, color=colours[name], linewidth=1)
    if all(value >= 0 for curve in curves for values in curve.losses.values() for value in values):
        for axes in panels.values():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
    figure.supylabel("loss", fontsize=9)
    _legend(figure, colours, columns=5)
    return page_svg(figure, prefix, "Training losses over epochs", f"Components: {', '.join(names)}.")


@themed
def forest(ablations: Sequence[Ablation], level: float, prefix: str) -> str:
    """Difference and 95% interval of each change, filled if told from zero, half if not over seeds."""
    figure = new_figure(0.9 + 0.34 * len(ablations))
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
    for row, ablation in enumerate(ablations):
        test = ablation.comparison
        over_seeds = test.seeds_p is None or test.seeds_p < level
        fill = "none" if test.corrected_p >= level else "full" if over_seeds else "left"
        axes.plot([test.low, test.high], [row, row], color=SERIES[0], linewidth=1.6, solid_capstyle="butt")
        axes.plot(
            [test.difference], [row], "o", color=SERIES[0], fillstyle=fill, markersize=7, markerfacecoloralt=GROUND
        )
    axes.set_yticks(range(len(ablations)), [_wrapped(ablation.label, 44) for ablation in ablations])
    axes.set(ylim=(len(ablations) - 0.4, -0.6), xlabel=f"difference in {metric_title(ablations[0].comparison.metric)}")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:+.4g}" if abs(x) > 1e-12 else "0")
    axes.locator_params(axis="x", nbins=6)
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    tests = [(ablation.label, ablation.comparison) for ablation in ablations]
    description = "; ".join(
        f"{label}: {test.difference:+.4f}, {test.low:+.4f} to {test.high:+.4f}" for label, test in tests
    )
    return page_svg(figure, prefix, "Differences from the unchanged model", description)


def strata_panels(strata: Sequence[Stratum]) -> list[list[Stratum]]:
    """What is drawn: the first metric of each group; groups with one metric share a panel, cold items first."""
    first = {stratum.group: stratum.metric for stratum in reversed(strata)}
    panels: dict[str, list[Stratum]] = {}
    for stratum in sorted(strata, key=lambda stratum: stratum.group != "cold"):
        if stratum.metric == first[stratum.group]:
            panels.setdefault(stratum.metric, []).append(stratum)
    return sorted(panels.values(), key=lambda panel: panel[0].group == "cold")


@themed
def strata_bars(panels: Sequence[Sequence[Stratum]], prefix: str) -> str:
    """Grouped bars, one panel for each list of strata; of more than eight labels the eight highest are drawn."""
    labels = list(dict.fromkeys(label for panel in panels for stratum in panel for label in stratum.values))
    if len(labels) > len(SERIES):
        sums = {label: sum(stratum.values.get(label, 0.0) * stratum.count for stratum in panels[0]) for label in labels}
        labels = sorted(sorted(labels, key=lambda label: -sums[label])[: len(SERIES)], key=labels.index)
    columns = 2 if max(map(len, labels), default=0) > 22 else 4
    lines = math.ceil(len(labels) / columns)
    figure = new_figure(2.2 * len(panels) + 0.2 * lines)
    width = 0.8 / max(1, len(labels))
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        for place, label in enumerate(labels):
            at = [row + (place - (len(labels) - 1) / 2) * width for row in range(len(panel))]
            axes.bar(at, [stratum.values.get(label, math.nan) for stratum in panel], width * 0.9, color=SERIES[place])
        names = [f"{_wrapped(stratum.name, 16)}\nn = {stratum.count:,}" for stratum in panel]
        axes.set_xticks(range(len(panel)), names, fontsize=8)
        kind = next((f"by {stratum.group}" for stratum in panel if stratum.group != "cold"), "of cold items")
        axes.set_title(f"{metric_title(panel[0].metric)} {kind}")
        highest = max((value for stratum in panel for value in stratum.values.values()), default=0)
        axes.set_ylim(0, 1.06 * highest or 1)
        axes.set_xlim(-0.6, max(len(panel), 3) - 0.4)  # a stratum alone would make bars like walls
        axes.grid(True, axis="y")
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", length=0)
    _legend(figure, dict(zip(labels, SERIES, strict=False)), columns)
    description = "; ".join(
        f"{stratum.group}, {stratum.name}: {stratum.count:,}" for panel in panels for stratum in panel
    )
    return page_svg(figure, prefix, "Metrics by stratum", description)


def _panels(labels: Sequence[str]) -> tuple[Figure, dict[str, Axes]]:
    """A figure with one panel for each label, at most three in a line."""
    names = list(dict.fromkeys(labels))
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(0.6 + (2.9 if rows == 1 else 2.0 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel in axes[len(names) :]:
        panel.set_axis_off()
    for panel, name in zip(axes, names, strict=False):
        panel.set_title(_wrapped(name, 92 // columns))
        panel.grid(True)
        panel.locator_params(axis="x", integer=True, nbins=6)
    for panel in axes[max(0, len(names) - columns) : len(names)]:
        panel.set_xlabel("epoch")
        panel.tick_params(labelbottom=True)
    return figure, dict(zip(names, axes, strict=False))


def _legend(figure: Figure, colours: dict[str, str], columns: int) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=colour) for colour in colours.values()]
    labels = [f"\u200b{label}" if label.startswith("_") else label for label in colours]  # matplotlib hides _names
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, handlelength=1, handleheight=0.8)


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width)[:3]) or text
