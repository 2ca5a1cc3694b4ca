"""The page as a browser shows it: nothing is loaded, nothing is wider than a telephone, both colour schemes are legible."""

from __future__ import annotations

import dataclasses
import re

import pytest

from egt_tf.report import read_facts, run_page
from egt_tf.report.facts import Examples
from tests.helpers.chromium import chromium_path, open_browser
from tests.helpers.run_folders import write_full_run
from tests.report.test_page import example

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium_path() is None, reason="there is no Chromium"),
]
NAMES = ("a_class_with_a_name_that_is_as_long_as_some_are_" * 3, "bee", "cow")
# Contrast of WCAG 2 between two colours "rgb(r, g, b)".
CONTRAST = """
(() => {
  // "rgb(255, 255, 255)" or, of a mixture, "color(srgb 1 1 1 / 0.5)".
  const parts = c => { const v = c.match(/[0-9.]+/g).map(Number), scale = c.startsWith('color') ? 1 : 255;
    return [v[0] / scale, v[1] / scale, v[2] / scale, v.length > 3 ? v[3] : 1]; };
  const page = parts(getComputedStyle(document.body).backgroundColor);
  const light = c => { const v = [0, 1, 2].map(i => c[3] * c[i] + (1 - c[3]) * page[i])
    .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const ground = e => { const c = parts(getComputedStyle(e).backgroundColor);
    return c[3] || !e.parentElement ? c : ground(e.parentElement); };
  const of = e => { const back = light(ground(e)), ink = light(parts(getComputedStyle(e).color));
    return (Math.max(back, ink) + 0.05) / (Math.min(back, ink) + 0.05); };
  const elements = [...document.querySelectorAll('h1, h2, h3, p, a, dt, dd, caption, th, td, summary, figcaption, code')];
  return Math.min(...elements.map(of));
})()
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    facts = read_facts(write_full_run(folder / "run"))
    shown = (example("bee", NAMES), example("cow", NAMES))
    path = folder / "report.html"
    path.write_text(run_page(dataclasses.replace(facts, examples=Examples(2, 1, shown, "fsc"))), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def test_nothing_is_loaded_and_nothing_is_complained_of(browser, page):
    browser.open(page)
    requests = [event["params"]["request"]["url"] for event in browser.events if "request" in event.get("params", {})]
    assert [url for url in requests if not url.startswith("data:image/")] == [page.as_uri()]
    said = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert [event for event in browser.events if event.get("method") in said] == []
    assert browser.evaluate("document.images.length") == 2 * (3 + 4) + 1
    assert browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


@pytest.mark.parametrize("width", [320, 380, 1000])
def test_the_page_is_as_wide_as_the_window(browser, page, width):
    browser.open(page, width=width)
    browser.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    # What is wider is scrolled in its own box; charts and pictures are not.
    assert browser.evaluate(
        "[...document.querySelectorAll('svg, img')].every(e => e.getBoundingClientRect().right <= innerWidth)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_told_from_its_ground(browser, page, scheme):
    browser.open(page, scheme=scheme)
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 28)"
    assert dark == (scheme == "dark")
    assert browser.evaluate(CONTRAST) >= 4.5


def test_the_words_of_charts_lie_in_them(browser, page):
    browser.open(page)
    outside = """[...document.querySelectorAll('svg text')].filter(text => {
      const t = text.getBoundingClientRect(), s = text.closest('svg').getBoundingClientRect();
      return t.left < s.left - 1 || t.right > s.right + 1 || t.top < s.top - 1 || t.bottom > s.bottom + 1; })
      .map(text => text.textContent)"""
    assert browser.evaluate(outside) == []


def test_it_is_printed_with_what_is_folded(browser, page):
    browser.open(page)
    content = browser.pdf()
    assert content.startswith(b"%PDF")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 14
