"""The built page in a real browser, where this machine has one: what a reader sees and can do.

Wide and on a phone, light and dark, on paper, from the keyboard, and opened as a file.
"""

import os

import pytest
from tiny_books import good, make_book, markdown, press

from bnkit.book import browser, pdf
from bnkit.book.layout import PressError
from bnkit.book.measure import InSight, in_sight

PARTS = """\
::::{admonition} Before you read on: how much is it?
:class: prediction

:::{dropdown} Answer
**about 1.5**, for a reason.
:::
::::

::::{admonition} Before you read on: which?
:class: prediction

- this
- that

:::{dropdown} Answer
- The usual mistake.
- **Yes.** For $\\sqrt 2$ reasons.
:::
::::

:::{admonition} Common mistake: to take it for that
:class: mistake
It is this.
:::
"""
needs_browser = pytest.mark.skipif(
    browser.executable() is None, reason="needs Playwright and an installed Chromium"
)


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    chapter = good()
    chapter["cells"].insert(-2, markdown("parts", PARTS))
    book = make_book(tmp_path_factory.mktemp("seen") / "book", {"01-good": chapter})
    done = press(book, "build")
    assert done.returncode == 0, done.stdout + done.stderr
    return book


@pytest.fixture
def page(book):
    return book.html / "chapters" / "01-good.html"


def test_only_teaching_cells_are_in_sight(page):
    assert in_sight(page) == InSight(teaching=1, other=0, twice=0)


def test_a_machine_without_a_browser_is_told_what_is_needed(monkeypatch):
    monkeypatch.setattr(browser, "executable", lambda: None)
    with pytest.raises(PressError, match="BNKIT_CHROMIUM"), browser.opened():
        pass


@needs_browser
def test_nothing_is_cut_small_or_out_of_reach_and_nothing_leaves_the_machine(chromium, page):
    assert browser.look(chromium, page) == browser.Seen(0, 0, 0, 0, 0)


@needs_browser
def test_the_look_finds_what_is_wrong(chromium, page, tmp_path):
    """The negative control: a page with each of the faults."""
    wide = f"<article><h1>x</h1><pre style='overflow:auto'>{'wide ' * 500}</pre><img src='x.png'>"
    figure = "<svg viewBox='0 0 4000 90'><text y='50' font-size='20'>a label</text></svg></article>"
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(f"<html>{wide}{figure}<img src='http://127.0.0.1:9/x.png'></html>")
    seen = browser.look(chromium, spoilt)
    assert seen.cut == 1
    assert seen.small == 1
    assert min(seen.critical, seen.serious, seen.outside) > 0


@needs_browser
def test_the_switch_opens_all_evidence_and_remembers(chromium, page):
    tab = browser.load(chromium, page, browser.WIDE)
    closed = "() => [...document.querySelectorAll('details.evidence')].map((fold) => fold.open)"
    assert not any(tab.evaluate(closed))
    tab.get_by_role("button", name="Show the evidence").press("Enter")
    assert all(tab.evaluate(closed))
    assert not tab.evaluate("document.querySelector('details.solution').open")
    tab.reload()
    assert all(tab.evaluate(closed))
    tab.get_by_role("button", name="Hide the evidence").press("Enter")
    assert not any(tab.evaluate(closed))


@needs_browser
@pytest.mark.parametrize(
    ("given", "said", "opened"),
    [
        ("1.5", "Yes", True),
        ("1,45", "Not quite", False),
        ("1.6", "Not quite", False),
        ("", "Answer first", False),
    ],
)
def test_a_prediction_checks_a_number(chromium, page, given, said, opened):
    tab = browser.load(chromium, page, browser.PHONE)
    box = tab.locator(".prediction").first
    box.get_by_role("textbox").fill(given)
    box.get_by_role("textbox").press("Enter")
    assert said in box.get_by_role("status").inner_text()
    assert box.locator("details").evaluate("fold => fold.open") is opened


@needs_browser
def test_a_prediction_checks_a_choice_from_the_keyboard(chromium, page):
    tab = browser.load(chromium, page, browser.WIDE)
    box = tab.locator(".prediction").nth(1)
    first = box.get_by_role("radio").first
    first.press("Space")
    first.press("Enter")
    assert "usual mistake" in box.get_by_role("status").inner_text()
    first.press("ArrowDown")
    box.get_by_role("button", name="Check").press("Enter")
    assert box.get_by_role("status").inner_text().startswith("Yes.")
    assert box.locator("details").evaluate("fold => fold.open")


@needs_browser
def test_without_a_script_the_answer_is_a_fold(chromium, page):
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(page.as_uri())
    fold = tab.locator(".prediction details").first
    assert not fold.get_by_text("for a reason").is_visible()
    fold.locator("summary").click()
    assert fold.get_by_text("for a reason").is_visible()
    context.close()


@needs_browser
def test_a_search_among_files_shows_the_passage_with_its_formulas(chromium, book):
    tab = browser.load(chromium, book.html / "search.html", browser.WIDE, address="?q=formula")
    found = tab.locator("ul.search > li").first
    found.locator("mjx-container").first.wait_for(timeout=20_000)
    assert "With the formula" in found.inner_text()
    assert "\\(" not in found.inner_text()


@needs_browser
def test_on_paper_folds_are_open_and_pages_have_an_outline_and_numbers(book):
    from pypdf import PdfReader

    done = press(book, "pdf", PATH=os.environ["PATH"])
    assert done.returncode == 0, done.stderr
    printed = PdfReader(book.build / "book.pdf")
    text = "\n".join(sheet.extract_text() for sheet in printed.pages)
    assert "With a third." in text, "what only the curious read"
    assert "assert 1 / 3" in text, "the solution"
    assert "axes.plot" not in text, "the evidence stays folded"
    assert [entry.title for entry in printed.outline] == ["A book", "A chapter", "This build"]
    assert printed.metadata.title == pdf.TITLE
    assert printed.pages[-1].extract_text().rstrip().endswith(str(len(printed.pages)))
