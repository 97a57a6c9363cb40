"""Figures as SVG inside a page: colours follow the page's theme, text stays text, ids are unique."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any, ParamSpec

from bm3_pyg.errors import ConfigError
from bm3_pyg.report.picture import STYLE

if TYPE_CHECKING:
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
    said = f'<title id="{prefix}-title">{escape(name)}</title><desc id="{prefix}-desc">{escape(description)}</desc>'
    return head + said + body


def _fitted(tag: str, prefix: str) -> str:
    """A tag with ids of its own, the page's colours and no more decimals than one can see."""
    tag = re.sub(r'\bid="', f'id="{prefix}-', tag)
    tag = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', tag).replace("url(#", f"url(#{prefix}-")
    tag = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found.group()):.2f}", tag)
    for colour, themed in THEME.items():
        tag = tag.replace(colour, themed)
    return tag
