"""Figures in a real browser: one layout at a time, words of a size to read, the theme's colours."""

from pathlib import Path

import pytest
from drawn import example

from bnkit.book import figures
from bnkit.page.figures import GROUND, PALETTE, stylesheet
from bnkit.page.notebook import Figure

BOOK = Path(figures.__file__).with_name("_static") / "book.css"
ABOUT = Figure("fig-example", "Left the sine, right the cosine.", "Two waves.")
SHOWN = """() => [...document.querySelectorAll(".drawing svg")]
  .filter((svg) => svg.getBoundingClientRect().width > 0)
  .map((svg) => ({
    layout: svg.getAttribute("class"),
    right: svg.getBoundingClientRect().right,
    words: Math.min(...[...svg.querySelectorAll("text")].map((text) =>
      parseFloat(getComputedStyle(text).fontSize) * svg.getScreenCTM().a)),
    title: getComputedStyle([...svg.querySelectorAll("text")].find((text) =>
      text.textContent.startsWith("A title"))).fill,
    plate: getComputedStyle(svg.querySelector(".plate")).display,
  }))"""


@pytest.fixture(scope="module")
def page(browser):
    """A page with one figure and the book's style sheets, and nothing else."""
    data, _ = example()._repr_mimebundle_()
    drawn = figures.html(data, ABOUT)
    body = f'<body style="margin: 0 23px">{drawn}<p id="word">{ABOUT.caption}</p>'
    sheets = f"<style>{stylesheet()}{BOOK.read_text(encoding='utf-8')}</style>"
    opened = browser.new_page()
    opened.set_content(f'<!DOCTYPE html><html lang="en" data-theme="light">{sheets}{body}</html>')
    yield opened
    opened.close()


def look(page, width: int, theme: str, media: str = "screen") -> dict:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(media=media)
    page.evaluate("(theme) => { document.documentElement.dataset.theme = theme }", theme)
    (shown,) = page.evaluate(SHOWN)
    return shown


def rgb(colour: str) -> str:
    return "rgb({}, {}, {})".format(*(int(colour[k : k + 2], 16) for k in (1, 3, 5)))


@pytest.mark.parametrize(
    ("width", "theme", "media", "layout", "ink"),
    [
        (1200, "light", "screen", "wide", PALETTE["ink"].light_text),
        (1200, "dark", "screen", "wide", PALETTE["ink"].dark_text),
        (390, "light", "screen", "narrow", PALETTE["ink"].light_text),
        (390, "dark", "screen", "narrow", PALETTE["ink"].dark_text),
        (390, "dark", "print", "wide", PALETTE["ink"].light_text),
    ],
)
def test_one_layout_is_shown_in_the_tones_of_the_theme(page, width, theme, media, layout, ink):
    shown = look(page, width, theme, media)
    assert shown["layout"] == layout
    assert shown["title"] == rgb(ink)
    assert shown["plate"] == "none", "the page is the ground"
    assert shown["right"] <= width


def test_on_a_phone_words_are_as_large_as_the_press_has_computed(page):
    shown = look(page, 390, "light")
    data, _ = example()._repr_mimebundle_()
    assert shown["words"] >= 8
    assert shown["words"] == pytest.approx(figures.smallest_label(data, 390 - 2 * 23), rel=0.01)


def test_a_figure_that_stands_alone_has_its_plate_and_the_light_tones(browser):
    opened = browser.new_page()
    opened.set_content(f'<body style="background: {GROUND["dark"]}">{example().svg()}</body>')
    fill = "getComputedStyle(document.querySelector('.plate path')).fill"
    assert opened.evaluate(fill) == rgb(PALETTE["ground"].light)
    opened.close()
