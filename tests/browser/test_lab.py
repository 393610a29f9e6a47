"""JupyterLab, the real one, folds what the page folds. Starting it takes long: BNKIT_SLOW=1."""

import os
import shutil
import socket
import subprocess
import sys

import pytest
from clusters import wait_for

from bnkit import paths
from bnkit.page.notebook import EVIDENCE, TEACHING, cells_of, kind_of

WHY = "JupyterLab takes long to start: set BNKIT_SLOW=1"
CHAPTER = paths.root() / "chapters" / "04-the-transform.ipynb"
# Of the cells on screen: the place in the notebook, and whether the source is folded.
FOLDED = """() => [...document.querySelectorAll('.jp-Notebook .jp-Cell[data-windowed-list-index]')]
  .filter((cell) => cell.classList.contains('jp-CodeCell') && cell.checkVisibility())
  .map((cell) => [Number(cell.dataset.windowedListIndex),
                  !cell.querySelector('.jp-Cell-inputArea .cm-content')?.checkVisibility()])"""


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab on a copy of one chapter."""
    shutil.copy(CHAPTER, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", f"--port={port}", "--IdentityProvider.token=", "--allow-root"]
    command = [sys.executable, "-m", "jupyterlab", *options, f"--notebook-dir={tmp_path}"]
    own = os.environ | {"HOME": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=own, **quiet) as process:
        try:
            wait_for(lambda: _answers(port))
            yield f"http://127.0.0.1:{port}/lab/tree/{CHAPTER.name}?reset"
        finally:
            process.kill()


def _answers(port: int) -> bool:
    with socket.socket() as call:
        return call.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif("BNKIT_SLOW" not in os.environ, reason=WHY)
def test_evidence_is_folded_and_teaching_is_not(chromium, lab):
    tab = chromium.new_page(viewport={"width": 1280, "height": 6000})
    tab.goto(lab)
    tab.wait_for_function(f"() => ({FOLDED})().length > 9", timeout=120_000)
    tab.wait_for_function(f"() => ({FOLDED})().some(([, folded]) => !folded)")
    cells = cells_of(CHAPTER)
    seen = {place: (kind_of(cells[place]), folded) for place, folded in tab.evaluate(FOLDED)}
    assert set(seen.values()) == {(TEACHING, False), (EVIDENCE, True)}
    tab.close()
