"""A report as one page that needs nothing else, and the same beside it as Markdown, JSON and LaTeX."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from bm3_pyg.errors import ConfigError
from bm3_pyg.files import check_parent, write_text
from bm3_pyg.study.content import Report
from bm3_pyg.study.document import document
from bm3_pyg.study.text import latex_report, markdown_report


def write_report(report: Report, out: str | Path) -> list[Path]:
    """Write ``out``, a ``.html`` file, and beside it ``.md``, ``.json`` and ``.tex``; return their paths.

    All are made before the first is written, and each appears whole.

    Raises:
        ConfigError: the suffix is another, the folder is not there, or jinja2 or matplotlib is not installed.
    """
    out = Path(out)
    if out.suffix.lower() != ".html":
        raise ConfigError(f"{out}: a report of type {out.suffix!r}, expected .html")
    check_parent(out)
    texts = {
        out: html_report(report),
        out.with_suffix(".md"): markdown_report(report),
        out.with_suffix(".json"): json.dumps(report.plain(), indent=1, allow_nan=False) + "\n",
        out.with_suffix(".tex"): latex_report(report),
    }
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def html_report(report: Report) -> str:
    """The page: styles, script and plots are in it, nothing is fetched."""
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise ConfigError('a report\'s page needs jinja2: pip install "bm3-pyg[report]"') from error
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("bm3_pyg.study").joinpath("template.html").read_text(encoding="utf-8"))
    return template.render(document=document(report)) + "\n"
