"""The built site in a real browser, where this machine has one: what readers see, and can use.

A Chromium that is installed is driven by Playwright; none is downloaded. ``$BNKIT_CHROMIUM`` names
one that is somewhere else.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from bnkit import engines
from bnkit.book.layout import PressError

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LEGIBLE = 8  # pixels of a label's letters on a phone
SERIOUS = ("critical", "serious")

CUT = """() => [...document.querySelectorAll('article pre, mjx-container[display="true"]')]
  .filter((box) => box.checkVisibility() && box.scrollWidth > box.clientWidth + 1).length"""
SMALL = """(least) => [...document.querySelectorAll('article svg text')].filter((label) => {
    const scale = label.checkVisibility() && label.getScreenCTM();
    const size = scale && parseFloat(getComputedStyle(label).fontSize) * Math.hypot(scale.a, scale.b);
    return scale && size < least - 0.01;
  }).length"""
AXE = """() => axe.run(document, { resultTypes: ['violations'] }).then((found) => found.violations
  .map(({ id, impact, nodes }) => ({ id, impact, places: nodes.map((node) => node.html) })))"""
FORMULAS = "() => window.MathJax?.startup?.promise"


class Seen(NamedTuple):
    """What a browser finds on one page."""

    cut: int  # boxes of code and formulas that are wider than the page, on a wide screen
    small: int  # labels of figures with letters under 8 pixels, on a phone
    critical: int  # places with critical violations of accessibility, light and dark together
    serious: int
    outside: int  # requests that leave the machine

    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self)


def executable() -> str | None:
    """The Chromium of this machine; None where there is none, or no Playwright to drive it."""
    if find_spec("playwright") is None:
        return None
    return os.environ.get("BNKIT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def opened() -> Iterator:
    """A headless browser. Raises PressError where there is none."""
    if (program := executable()) is None:
        wanted = f"Playwright and one of {', '.join(NAMES)} on the PATH, or $BNKIT_CHROMIUM"
        raise PressError(f"this needs a browser: {wanted}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = {"executable_path": program, "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**options)
        try:
            yield browser
        finally:
            browser.close()


def load(browser, page: Path, viewport: dict, scheme: str = "light", address: str = ""):
    """A tab with the file `page`, its formulas drawn; it counts the requests in `tab.outside`."""
    tab = browser.new_page(viewport=viewport, color_scheme=scheme)
    tab.outside = []
    near = ("file:", "data:", "blob:")
    tab.on("request", lambda r: None if r.url.startswith(near) else tab.outside.append(r.url))
    tab.goto(f"{page.resolve().as_uri()}{address}")
    tab.evaluate(FORMULAS)
    return tab


def violations(tab) -> list[dict]:
    """What axe-core finds on a page: rule, impact and places; critical and serious ones alone."""
    from axe_playwright_python.base import AXE_FILE_PATH

    tab.evaluate(Path(AXE_FILE_PATH).read_text(encoding="utf-8"))
    return [found for found in tab.evaluate(AXE) if found["impact"] in SERIOUS]


def look(browser, page: Path) -> Seen:
    """Look at one page on a wide screen, light and dark, and on a phone."""
    impacts, outside = Counter(), 0
    for scheme in ("light", "dark"):
        tab = load(browser, page, WIDE, scheme)
        cut = tab.evaluate(CUT)
        for found in violations(tab):
            impacts[found["impact"]] += len(found["places"])
        outside += len(tab.outside)
        tab.close()
    tab = load(browser, page, PHONE)
    small = tab.evaluate(SMALL, LEGIBLE)
    outside += len(tab.outside)
    tab.close()
    return Seen(cut, small, *(impacts[impact] for impact in SERIOUS), outside)


def look_at(pages: Sequence[Path]) -> Iterator[Seen]:
    """Look at each of `pages`, in as many browsers as there are cores."""
    own = {"mp_context": get_context("spawn"), "initializer": engines.end_with_parent}
    with ProcessPoolExecutor(engines.cores(), **own) as pool:
        yield from pool.map(_look_alone, pages)


def _look_alone(page: Path) -> Seen:
    with opened() as browser:
        return look(browser, page)
