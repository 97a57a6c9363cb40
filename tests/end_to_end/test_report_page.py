"""The report's page in a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bm3_pyg.study.content import Report
from bm3_pyg.study.html import html_report

webdriver = pytest.importorskip("selenium.webdriver")
pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CONTRAST = """
const channels = colour => colour.match(/[\\d.]+/g).map(Number);
const light = colour => {
  const [r, g, b] = channels(colour).slice(0, 3).map(x => x / 255)
    .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = node => {
  for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor;
    if (channels(colour)[3] !== 0) return colour;
  }
  return getComputedStyle(document.body).backgroundColor;
};
const found = [];
const written = "h1, h2, h3, p, li, a, th, td, figcaption, button, pre, summary, svg text";
for (const node of document.querySelectorAll(written)) {
  const style = getComputedStyle(node);
  const [a, b] = [node.closest("svg") ? style.fill : style.color, ground(node)].map(light);
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  found.push([ratio, node.tagName + ": " + node.textContent.trim().slice(0, 40)]);
}
return found;
"""
CELLS = """
const tables = [...document.querySelectorAll("table.sortable")];
const table = tables.find(one => one.tHead.textContent.includes(arguments[0]));
return [...table.tBodies[0].rows].map(row => row.cells[arguments[1]].textContent);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, made_report: Report, tmp_path: Path) -> Any:
    """The open page of a report with everything in it."""
    path = tmp_path / "report.html"
    path.write_text(html_report(made_report), encoding="utf-8")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(path.as_uri())
    return browser


def head(page: Any, table: str, name: str) -> Any:
    """The button that sorts by the column ``name`` of the first table whose head has ``table`` in it."""
    found = page.execute_script(
        "return [...document.querySelectorAll('table.sortable thead')]"
        ".find(head => head.textContent.includes(arguments[0])).querySelectorAll('button')",
        table,
    )
    return next(button for button in found if button.text == name)


def test_no_error_and_nothing_is_fetched(page: Any) -> None:
    assert [entry["message"] for entry in page.get_log("browser")] == []
    assert page.execute_script("return performance.getEntriesByType('resource').map(one => one.name)") == []
    fetched = "return [...document.querySelectorAll('[src], link[href]')].map(one => one.src || one.href)"
    assert page.execute_script(fetched) == ["data:,"]
    assert page.title == "BM3 & <others>"


def test_every_plot_is_rendered(page: Any) -> None:
    boxes = page.execute_script(
        "return [...document.querySelectorAll('svg')].map(svg => [svg.getBoundingClientRect().width,"
        " svg.getBoundingClientRect().height, svg.querySelectorAll('path').length, svg.querySelectorAll('text').length,"
        " Math.max(...[...svg.querySelectorAll('path')].map(path => path.getBBox().width))])"
    )
    assert len(boxes) == 4
    assert all(
        width > 500 and height > 60 and paths > 5 and texts > 3 and wide > 50
        for width, height, paths, texts, wide in boxes
    )


def test_words_of_a_plot_stay_inside_it(page: Any) -> None:
    outside = page.execute_script(
        "return [...document.querySelectorAll('svg')].flatMap(svg => { const box = svg.getBoundingClientRect();"
        " return [...svg.querySelectorAll('text')].filter(text => { const own = text.getBoundingClientRect();"
        " return own.left < box.left - 2 || own.right > box.right + 2 || own.top < box.top - 2"
        " || own.bottom > box.bottom + 2; }).map(text => text.textContent); })"
    )
    assert outside == []


def test_tables_sort_by_click_numbers_as_numbers(page: Any) -> None:
    button = head(page, "training, s", "training, s")
    column = "training, s", 2
    assert page.execute_script(CELLS, *column) == ["102.5", "112.5", "62.5"]
    button.click()
    assert page.execute_script(CELLS, *column) == ["112.5", "102.5", "62.5"]
    button.click()
    assert page.execute_script(CELLS, *column) == ["62.5", "102.5", "112.5"]
    cell = button.find_element("xpath", "..")
    assert cell.get_attribute("aria-sort") == "ascending"
    head(page, "training, s", "model").click()
    assert cell.get_attribute("aria-sort") is None
    names = page.execute_script(CELLS, "training, s", 0)
    assert names == page.execute_script("return arguments[0].toSorted((a, b) => a.localeCompare(b, 'en'))", names)


def test_tables_sort_by_keyboard_and_empty_cells_stay_last(page: Any) -> None:
    page.execute_script("arguments[0].focus()", head(page, "validation Recall@20", "validation Recall@20 there"))
    page.switch_to.active_element.send_keys("\ue007")
    assert page.execute_script(CELLS, "there", 4) == ["0.1000", "0.0900", "0.0500"]
    page.switch_to.active_element.send_keys(" ")
    assert page.execute_script(CELLS, "there", 4) == ["0.0500", "0.0900", "0.1000"]
    losses = head(page, "masking", "masking")
    for expected in (["0.4500", ""], ["0.4500", ""]):
        losses.send_keys("\ue007")
        assert page.execute_script(CELLS, "masking", 3) == expected


@pytest.mark.parametrize("width", [390, 768, 1200])
def test_no_page_wider_than_the_screen(page: Any, width: int) -> None:
    screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    assert page.execute_script("return innerWidth") == width
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    wide = page.execute_script(
        "return [...document.querySelectorAll('.box')].filter(box => box.scrollWidth > box.clientWidth)"
        ".map(box => getComputedStyle(box, '::before').content)"
    )
    assert bool(wide) == (width < 1200)  # what is too wide scrolls by itself, and says so
    assert all("scroll sideways" in content for content in wide)
    if width == 390:
        assert page.execute_script("return document.querySelectorAll('.box.wide svg').length") == 4


@pytest.mark.parametrize(("scheme", "media"), [("light", ""), ("dark", ""), ("dark", "print")])
def test_everything_can_be_read(page: Any, scheme: str, media: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    dark = page.execute_script("return getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark" and media == "")
    found = page.execute_script(CONTRAST)
    assert len(found) > 200
    assert [one for one in found if one[0] < 4.5] == []


def test_in_print_there_are_no_buttons_and_no_table_is_cut_or_folded(page: Any) -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    paper = {"width": 680, "height": 1000, "deviceScaleFactor": 1, "mobile": False}  # A4 without its margins
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", paper)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 680
    shown = "return [...document.querySelectorAll(arguments[0])].filter(one => one.checkVisibility()).length"
    assert page.execute_script(shown, ".copy, nav") == 0
    assert page.execute_script("return document.querySelector('details td').getBoundingClientRect().height") > 5


def test_commands_can_be_copied_or_are_selected(page: Any) -> None:
    page.find_element("css selector", ".copy").click()
    done = "return document.querySelector('.copy').textContent"
    for _ in range(50):
        if page.execute_script(done) != "Copy":
            break
    assert page.execute_script(done) in ("Copied", "Selected")


def test_a_bare_report_opens_too(browser: Any, made_report: Report, tmp_path: Path) -> None:
    path = tmp_path / "bare.html"
    path.write_text(html_report(replace(made_report, sections=made_report.sections[1:], warnings=())), encoding="utf-8")
    browser.get(path.as_uri())
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    assert [one.text for one in browser.find_elements("css selector", "h2")] == ["Results", "Protocol", "Dataset"]
