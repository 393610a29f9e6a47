"""Captions in JupyterLab: below the figure whose cell has run, and nowhere else."""

import json

import pytest
from IPython import display
from IPython.core.interactiveshell import InteractiveShell
from tiny_books import good

from bnkit.page import lab


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A shell as JupyterLab starts it on a notebook, and what it shows."""
    path = tmp_path / "01-good.ipynb"
    path.write_text(json.dumps(good()))
    monkeypatch.setenv(lab.NOTEBOOK, str(path))
    shell, shown = InteractiveShell(), []
    monkeypatch.setattr(display, "display", lambda thing: shown.append(thing.data))
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    return shell, shown


def run(shell, source, cell):
    shell.get_parent = lambda: {"metadata": {"cellId": cell} if cell else {}}
    return shell.run_cell(source)


def test_the_caption_follows_the_figure_s_cell_alone(session):
    shell, shown = session
    lab.show_captions(shell)
    lab.show_captions(shell)  # the cell that checks ran again: still one caption
    run(shell, "1", "figure-line")
    assert shown == ["**Figure.** A line rises. From left to right."]
    for cell in ("by-hand", "nothing", ""):
        run(shell, "1", cell)
    run(shell, "1 / 0", "figure-line")  # no figure, no caption
    assert len(shown) == 1


def test_a_notebook_that_cannot_be_read_has_no_captions(session, tmp_path):
    shell, shown = session
    lab.show_captions(shell)
    (tmp_path / "01-good.ipynb").write_text("half")
    run(shell, "1", "figure-line")
    assert lab.caption(tmp_path / "gone.ipynb", "figure-line") == ""
    assert shown == []


def test_papermill_and_plain_python_are_left_alone(session, monkeypatch):
    shell, shown = session
    monkeypatch.delenv(lab.NOTEBOOK)
    lab.show_captions(shell)
    lab.show_captions(None)
    run(shell, "1", "figure-line")
    assert shown == []
