"""Cells that run in the page, in a real browser without a network, from a disk and from a server.

The runtime is a data set: where it is not at hand these tests are skipped. Starting it takes
seconds, so what needs a start of its own is done only with BNKIT_SLOW=1.
"""

import functools
import http.server
import json
import os
import re
import shutil
import threading
from html import escape

import numpy as np
import pytest

from bnkit import paths
from bnkit.book import run_here
from bnkit.datasets import runtime
from bnkit.page import live
from bnkit.page.notebook import TEACHING, kind_of

WHY = "Python takes seconds to start in a browser: set BNKIT_SLOW=1"
SLOW = pytest.mark.skipif(not os.environ.get("BNKIT_SLOW"), reason=WHY)
PATIENCE = 300_000  # milliseconds; a busy machine is no bug
CELLS = [
    "import numpy as np\n\nfrom bnkit import reference\n\nx = np.array([[0.0], [2], [2], [8]])",
    "y, cache = reference.forward(x, np.ones(1), np.zeros(1), eps=0)\nprint(cache.var)\ny",
]
WRONG = "def mine(x, gamma, beta, dy, eps):\n    return dy, (dy * x).sum(axis=0), dy.sum(axis=0)"
PAGE = """<!DOCTYPE html><html lang="en"><title>A page</title>
<link rel="stylesheet" href="_static/run/run.css"><script defer src="_static/run/run.js"></script>
<p id="text">The text of the page.</p>{cells}
<div class="try-it run-here" data-check="backward">
<div class="highlight-python"><pre>{wrong}</pre></div></div>
</html>"""
CELL = (
    '<div class="cell run-here"><div class="cell_input"><div class="highlight-python">'
    '<pre>{code}</pre></div></div><div class="cell_output">built</div></div>'
)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A folder with one page, as the press would leave it, and the runtime beside it."""
    if not runtime.at_hand():
        pytest.skip("the runtime is not at hand: python -m bnkit data pyodide")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(run_here.STATIC, folder / run_here.FOLDER)
    run_here.write(runtime.found(), folder / run_here.FOLDER)
    cells = "".join(CELL.format(code=escape(code)) for code in CELLS)
    (folder / "page.html").write_text(PAGE.format(cells=cells, wrong=escape(WRONG)))
    return folder


class Page:
    """The page as a reader uses it, without a network."""

    def __init__(self, page):
        self.page = page
        self.errors = []
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def cell(self, place):
        return self.page.locator(".run-here").nth(place)

    def wait(self, place, words):
        status = self.cell(place).locator(".run-status")
        status.get_by_text(words, exact=True).wait_for(timeout=PATIENCE)

    def type(self, place, code):
        if (edit := self.cell(place).get_by_role("button", name="Edit")).is_visible():
            edit.click()
        self.cell(place).locator("textarea").fill(code)

    def press(self, place, name, then=None):
        self.cell(place).get_by_role("button", name=f"{name}:").click()
        if then:
            self.wait(place, then)

    def output(self, place):
        return self.cell(place).locator(".run-output").inner_text()

    def run(self, place, code, then="ran"):
        self.type(place, code)
        self.press(place, "Run", then)
        return self.output(place)


@pytest.fixture(scope="module")
def opened(browser, site):
    """The page opened from the disk, Python started by the first cell; its state is shared."""
    if not os.environ.get("BNKIT_SLOW"):
        pytest.skip(WHY)
    context = browser.new_context(viewport={"width": 375, "height": 800})
    context.set_offline(True)
    page = Page(context.new_page())
    asked = []
    page.page.on("request", lambda request: asked.append(request.url))
    page.page.goto((site / "page.html").as_uri())
    page.press(1, "Run all above")
    page.wait(0, "ran")
    page.asked = asked
    yield page
    assert not page.errors
    context.close()


def test_a_page_that_nobody_touches_loads_its_two_small_files_alone(browser, site):
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.goto((site / "page.html").as_uri())
    page.get_by_role("button", name="Run: cell 1").wait_for()
    assert sorted(asked) == ["page.html", "run.css", "run.js"]
    size = sum((site / run_here.FOLDER / name).stat().st_size for name in ("run.js", "run.css"))
    assert size < 30 * 1024
    page.close()


def test_nothing_comes_from_anywhere_but_the_disk(opened):
    assert len(opened.asked) > 10
    assert all(url.startswith(("file:", "blob:")) for url in opened.asked)


def test_a_cell_runs_with_the_names_of_those_above(opened):
    opened.press(1, "Run", "ran")
    assert opened.output(1).strip().split("\n\n") == [
        "[9.]",
        "array([[-1.        ],\n       [-0.33333333],\n"
        "       [-0.33333333],\n       [ 1.66666667]])",
    ]
    assert opened.cell(1).locator(".cell_output").is_hidden()


def test_an_edit_changes_the_output_and_reset_restores_the_page(opened):
    assert "-5." in opened.run(
        1, CELLS[1].replace("np.ones(1), np.zeros(1)", "6 * np.ones(1), np.ones(1)")
    )
    opened.press(1, "Reset")
    assert opened.cell(1).locator("textarea").count() == 0
    assert opened.cell(1).locator("pre").first.inner_text().startswith("y, cache = ")
    assert opened.cell(1).locator(".cell_output").is_visible()
    opened.press(1, "Run", "ran")
    assert "-0.33333333" in opened.output(1)


def test_control_and_enter_run_and_enter_keeps_the_indentation(opened):
    opened.type(0, "")
    box = opened.cell(0).locator("textarea")
    box.focus()
    for line in ("for k in range(3):", "print(k)"):
        opened.page.keyboard.type(line)
        opened.page.keyboard.press("Enter")
    assert box.input_value() == "for k in range(3):\n    print(k)\n    "
    opened.page.keyboard.press("Control+Enter")
    opened.wait(0, "ran")
    assert opened.output(0).split() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = = 2", ["SyntaxError: invalid syntax", "x = = 2"]),
        (
            "1 / 0",
            ["Traceback (most recent call last):", 'File "<cell 1>", line 1', "ZeroDivision"],
        ),
        ("import torch", ["No module named 'torch'", "torch is not in this page", "make lab"]),
        ("reference.forward(x[:1], np.ones(1), np.zeros(1))", ["ValueError: x has shape (1, 1)"]),
    ],
)
def test_errors_are_printed_as_python_prints_them(opened, code, said):
    told = opened.run(0, code, then="stopped at an error")
    for words in said:
        assert words in told


def test_ten_megabytes_of_output_are_cut_and_the_page_says_so(opened):
    told = opened.run(0, "for _ in range(10_000):\n    print('x' * 999)")
    assert told.endswith("The cell printed 10,000,000 characters; the first 100,000 are shown.")
    assert len(told) < 101_000


def test_an_exercise_names_the_first_wrong_line(opened):
    opened.press(2, "Check", "ran")
    assert "`dgamma` is the first gradient that is wrong" in opened.output(2)
    opened.type(2, "nothing = 0\ndel mine")
    opened.press(2, "Check", "ran")
    assert "There is no function 'mine' yet" in opened.output(2)


def test_the_page_is_as_wide_as_a_phone(opened):
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 375


def test_an_endless_loop_is_stopped_and_the_page_lives(opened):
    opened.type(0, "while True:\n    pass")
    opened.press(0, "Run", "running")
    assert opened.cell(1).get_by_role("button", name="Run:").is_disabled()
    opened.press(0, "Stop", "did not run")
    assert "Run all above brings it back" in opened.output(0)
    assert opened.cell(1).get_by_role("button", name="Run:").is_enabled()


def test_a_file_altered_on_the_disk_is_refused_and_the_page_stays_readable(browser, site, tmp_path):
    copy = shutil.copytree(site, tmp_path / "site")
    file = copy / run_here.FOLDER / "pyodide-lock.json.js"
    whole, page = file.read_text(), Page(browser.new_page())
    page.page.goto((copy / "page.html").as_uri())
    for altered in (whole.replace('", "', '", "AAAA', 1), whole.replace('", "', '", "A?', 1)):
        file.write_text(altered)
        page.page.reload()
        page.press(0, "Run", "did not run")
        assert "The file pyodide-lock.json is not the one that this book was" in page.output(0)
    file.write_text(whole[: len(whole) // 2])
    page.page.reload()
    page.press(0, "Run", "did not run")
    assert "The file pyodide-lock.json is damaged" in page.output(0)
    assert page.page.locator("#text").is_visible()
    assert page.cell(0).locator("textarea").input_value() == CELLS[0]
    file.unlink()
    page.page.reload()
    page.press(0, "Run", "did not run")
    assert "The file pyodide-lock.json.js could not be loaded" in page.output(0)
    page.page.close()


def test_what_is_still_being_loaded_is_stopped_and_can_be_asked_for_again(browser, site):
    page = Page(browser.new_page())
    held = []
    page.page.route("**/python_stdlib.zip.js*", lambda route: held.append(route))  # a slow disk
    page.page.goto((site / "page.html").as_uri())
    page.press(0, "Run", "loading Python")
    while not held:
        page.page.wait_for_timeout(20)
    page.press(0, "Stop")
    held[0].continue_()
    page.wait(0, "did not run")
    assert page.output(0).strip() == "Stopped before Python ran."
    assert page.cell(0).get_by_role("button", name="Run:").is_enabled()
    assert not page.errors
    page.page.close()


def test_a_browser_without_webassembly_is_told(browser, site):
    page = Page(browser.new_page())
    page.page.add_init_script("delete window.WebAssembly")
    page.page.goto((site / "page.html").as_uri())
    page.press(0, "Run", "did not run")
    assert "has no WebAssembly" in page.output(0)
    page.page.close()


@SLOW
def test_from_a_server_in_two_tabs_with_a_figure_and_an_interrupt(browser, site):
    """Where pages may share memory, Stop leaves the names in place."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self):
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

        def log_message(self, *_):
            pass

    serve = functools.partial(Handler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        context = browser.new_context()
        one, two = Page(context.new_page()), Page(context.new_page())
        for page, value in ((one, "1"), (two, "2")):
            page.page.goto(f"http://127.0.0.1:{server.server_port}/page.html")
            page.run(0, f"mine = {value}")
        assert one.run(0, "mine").strip() == "1"
        one.run(0, "import matplotlib.pyplot as plt\nplt.plot([1, 2])")
        picture = one.cell(0).locator(".run-output img")
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
        one.type(0, "while True:\n    pass")
        one.press(0, "Run", "running")
        one.press(0, "Stop", "stopped at an error")
        assert "KeyboardInterrupt" in one.output(0)
        assert one.run(0, "mine").strip() == "1"
        assert not one.errors + two.errors
        context.close()
        server.shutdown()


def numbers_apart(text):
    """The words of an output, and its numbers."""
    number = r"-?\d+\.?\d*(?:e[-+]?\d+)?"
    return re.sub(r"\s+", " ", re.sub(number, "#", text)), [*map(float, re.findall(number, text))]


def chapters():
    """Each chapter's cells that run in the page, by its name; those without any are left out."""
    for path in sorted((paths.root() / "chapters").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        codes = ["".join(cell["source"]) for cell in cells if kind_of(cell) == TEACHING]
        runs = [code for code, good in zip(codes, run_here.runnable(codes), strict=True) if good]
        if runs:
            yield pytest.param(runs, id=path.stem)


@SLOW
@pytest.mark.parametrize("codes", list(chapters()))
def test_a_chapters_cells_give_in_the_page_what_they_give_here(browser, site, codes):
    sent = []
    session = live.Session(lambda kind, text: sent.append((kind, text)))
    cells = "".join(CELL.format(code=escape(code)) for code in codes)
    (site / "chapter.html").write_text(PAGE.format(cells=cells, wrong=escape(WRONG)))
    page = Page(browser.new_page())
    page.page.goto((site / "chapter.html").as_uri())
    for place, code in enumerate(codes):
        sent.clear()
        assert session.run(code, f"cell {place + 1}"), sent
        page.press(place, "Run", "ran")
        text = "".join(text for kind, text in sent if kind in ("out", "err", "value"))
        here, there = numbers_apart(text), numbers_apart(page.output(place))
        if text:
            assert there[0].strip() == here[0].strip()
            np.testing.assert_allclose(there[1], here[1], rtol=1e-6, atol=1e-12)
    assert not page.errors
    page.page.close()
