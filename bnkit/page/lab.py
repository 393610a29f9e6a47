"""What only JupyterLab needs: a figure's caption stands in the metadata of its cell, unseen there.

The press puts it below the figure on the page. In JupyterLab, which says to the kernel which cell it
runs and of which notebook, it is shown when the cell has run.
"""

import os
from pathlib import Path

from bnkit.page.notebook import Figure, cells_of, figure_of

NOTEBOOK = "JPY_SESSION_NAME"  # the notebook's path, which JupyterLab gives its kernels


def show_captions(shell: object | None) -> None:
    """Let a notebook's `shell` (IPython's, or None outside of one) show captions in JupyterLab."""
    if shell is None or NOTEBOOK not in os.environ:
        return
    if _show not in shell.events.callbacks["post_run_cell"]:
        shell.events.register("post_run_cell", _show)


def caption(notebook: Path, cell: str) -> str:
    """The caption of the figure that the cell with the id `cell` shows, in Markdown, or ""."""
    try:
        cells = cells_of(notebook)
    except (OSError, ValueError):
        return ""  # a notebook that was never saved, or is saved just now
    figure = next((figure_of(one) for one in cells if one.get("id") == cell), None) or Figure()
    return f"**Figure.** {figure.caption}" if figure.caption else ""


def _show(result: object) -> None:
    from IPython import get_ipython  # not at the top: who reads parameters alone needs none
    from IPython.display import Markdown, display

    if not result.success:
        return
    about = get_ipython().get_parent().get("metadata", {})
    if text := caption(Path(os.environ[NOTEBOOK]), about.get("cellId", "")):
        display(Markdown(text))
