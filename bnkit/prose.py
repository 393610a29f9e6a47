"""Measured numbers on their way into prose: nothing measured is typed by hand.

``report`` shows a sentence whose numbers come from the cell it stands in; it reads the same in JupyterLab and in the book.
``glue`` stores a number under a name that other pages quote with
``{glue:text}`/chapters/08-mnist.ipynb::name:.3f` ``.
"""

from IPython.display import Markdown, display


def report(markdown: str) -> None:
    """Show `markdown`, an f-string whose numbers the cell computed, as text of the page."""
    display(Markdown(markdown))


def glue(name: str, value: object) -> None:
    """Store `value` in the executed notebook under `name`, for other pages to quote; shows nothing by itself.

    Writes the display data that the book's builder reads, so that running a chapter needs none of the builder's packages.
    """
    data = {"application/papermill.record/text/plain": repr(value)}
    display(data, raw=True, metadata={"scrapbook": {"name": name, "mime_prefix": "application/papermill.record/"}})
