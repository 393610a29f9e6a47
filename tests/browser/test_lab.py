"""JupyterLab, the real one: it folds what the page folds, and follows the links that the page does.

Starting it takes long: BNKIT_SLOW=1.
"""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
from clusters import wait_for
from tiny_books import markdown, notebook

from bnkit import paths
from bnkit.book.evidence import LINK, PLACE
from bnkit.page.notebook import EVIDENCE, TEACHING, cells_of, kind_of, source_of

pytestmark = pytest.mark.skipif(
    "BNKIT_SLOW" not in os.environ, reason="JupyterLab takes long to start: set BNKIT_SLOW=1"
)
TooLong = pytest.importorskip("playwright.sync_api").TimeoutError
SOME = (
    ("claims", "cell-id=c12"),
    ("04-the-transform", "cell-id=c21-no-bounds"),
    ("claims", "cell-id=c27"),
)
CLICKS = 4  # on a link, until it must have led to its cell
CHAPTERS = sorted((paths.root() / "chapters").glob("*.ipynb"))
CHAPTER = paths.root() / "chapters" / "04-the-transform.ipynb"
# Of the cells on screen: the place in the notebook, and whether the source is folded.
FOLDED = """() => [...document.querySelectorAll('.jp-Notebook .jp-Cell[data-windowed-list-index]')]
  .filter((cell) => cell.classList.contains('jp-CodeCell') && cell.checkVisibility())
  .map((cell) => [Number(cell.dataset.windowedListIndex),
                  !cell.querySelector('.jp-Cell-inputArea .cm-content')?.checkVisibility()])"""
# Whether of the notebook in sight this cell is the first on screen, or the end has been reached.
ARRIVED = """([file, place]) => {
  const current = document.querySelector('.jp-MainAreaWidget:not(.lm-mod-hidden) .jp-Notebook');
  const title = document.querySelector('.lm-DockPanel-tabBar .jp-mod-current')?.textContent;
  const cell = current?.querySelector(`.jp-Cell[data-windowed-list-index="${place}"]`);
  if (!cell || title !== file) return false;
  const outer = current.querySelector('.jp-WindowedPanel-outer');
  const from = cell.getBoundingClientRect().top - outer.getBoundingClientRect().top;
  const end = outer.scrollTop + outer.clientHeight > outer.scrollHeight - 2;
  return Math.abs(from) < 20 || (end && from > 0 && from < outer.clientHeight);
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab on a copy of the chapters, and of a page with all their links."""
    folder = tmp_path_factory.mktemp("lab")
    for chapter in CHAPTERS:
        shutil.copy(chapter, folder)
    written = "\n".join(f"- [{name} {place}]({name}.ipynb#{place})" for name, place in links())
    (folder / "links.ipynb").write_text(json.dumps(notebook(markdown("all", written))))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", f"--port={port}", "--IdentityProvider.token=", "--allow-root"]
    command = [sys.executable, "-m", "jupyterlab", *options, f"--notebook-dir={folder}"]
    own = os.environ | {"HOME": str(folder), "JUPYTER_CONFIG_DIR": str(folder / "config")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=own, **quiet) as process:
        try:
            wait_for(lambda: _answers(port))
            yield f"http://127.0.0.1:{port}/lab/tree"
        finally:
            process.kill()


def links() -> list[tuple[str, str]]:
    """Every chapter and place in it to which a chapter links."""
    texts = (source_of(cell) for chapter in CHAPTERS for cell in cells_of(chapter))
    return sorted({link for text in texts for link in LINK.findall(text)})


def _answers(port: int) -> bool:
    with socket.socket() as call:
        return call.connect_ex(("127.0.0.1", port)) == 0


def test_evidence_is_folded_and_teaching_is_not(chromium, lab):
    tab = chromium.new_page(viewport={"width": 1280, "height": 6000})
    tab.goto(f"{lab}/{CHAPTER.name}?reset")
    tab.wait_for_function(f"() => ({FOLDED})().length > 9", timeout=120_000)
    tab.wait_for_function(f"() => ({FOLDED})().some(([, folded]) => !folded)")
    cells = cells_of(CHAPTER)
    seen = {place: (kind_of(cells[place]), folded) for place, folded in tab.evaluate(FOLDED)}
    assert set(seen.values()) == {(TEACHING, False), (EVIDENCE, True)}
    tab.close()


def test_links_lead_to_the_cells_that_they_name(chromium, lab):
    """In notebooks that have not run; that every link names a cell, ``make check`` holds.

    JupyterLab opens a notebook at its beginning whatever the link says, and lays cells out as they
    come into sight: a link is followed once more, then, as the page of all claims says.
    """
    tab = chromium.new_page(viewport={"width": 1280, "height": 800})
    tab.goto(f"{lab}/links.ipynb?reset")
    back = tab.locator(".lm-DockPanel-tabBar .lm-TabBar-tab", has_text="links.ipynb")
    for name, place in SOME:
        assert (name, place) in links()
        ids = [f"{PLACE}{cell['id']}" for cell in cells_of(paths.root() / f"chapters/{name}.ipynb")]
        where = [f"{name}.ipynb", ids.index(place)]
        link = tab.locator(f'.jp-MarkdownCell a[href*="/{name}.ipynb"][href$="#{place}"]')
        for tries in range(CLICKS, 0, -1):
            back.click(timeout=120_000)
            link.first.click(timeout=120_000)
            try:
                tab.wait_for_function(ARRIVED, arg=where, timeout=6_000)
                break
            except TooLong:
                assert tries > 1, f"{name} {place} was never reached"
    tab.close()
