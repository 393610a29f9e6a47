"""Measured numbers on their way into prose: nothing measured is typed by hand.

``report`` shows a sentence, ``table`` a table, whose numbers come from the cell it stands in; both
read the same in JupyterLab and in the book, with numbers set as ``typography`` says. What ``keep``
shows is for the records, and folded. ``glue`` stores a number under a name that other pages quote
through the builder's ``glue:text`` role, with the key written from the root:
``/chapters/08-mnist.ipynb::name:.3f``.
"""

import inspect
import re
from collections.abc import Iterable, Sequence
from html import escape

from IPython.display import Markdown, display

from bnkit.page import typography

SITE = "text/x-myst"  # the second face of a report: the press puts it in the place of the first
KEPT = "kept"  # what the press finds in the metadata of an output that belongs into the fold


def report(markdown: str, site: str | None = None) -> None:
    """Show `markdown`, an f-string whose numbers the cell computed, as text of the page.

    A report that quotes other chapters' numbers has two faces: `site`, in which they are roles of
    the book's builder, and `markdown`, the same for JupyterLab, where they are not at hand.
    """
    markdown = typography.markdown(markdown)
    if site is None:
        display(Markdown(markdown))
    else:
        display({"text/markdown": markdown, SITE: typography.markdown(site)}, raw=True)


def keep(title: str, markdown: str) -> None:
    """Show `markdown` folded, under `title`: it is for the records, and not for the reader's way.

    In the book it stands in the fold of its cell.
    """
    markdown = typography.markdown(markdown)
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[*`]", r"\1", markdown)
    folded = f"<details><summary>{escape(title)}</summary>{escape(plain)}</details>"
    data = {"text/html": folded, "text/markdown": markdown}
    display(data, raw=True, metadata={"bnkit": KEPT})


Row = Sequence[object]


def table(header: Row, rows: Iterable[Row], align: str | None = None) -> None:
    """Show a table; the arguments are those of ``as_table``."""
    report(as_table(header, rows, align))


def as_table(header: Row, rows: Iterable[Row], align: str | None = None) -> str:
    """A table of cells in Markdown: column titles in `header`, then `rows`, all of one length.

    `align` has one letter a column, "l" or "r". Left out, columns of numbers stand to the right, so
    that digits stand below digits. Raises ValueError when a row or `align` has another length.
    """
    lines = [[_cell(content) for content in row] for row in (header, *rows)]
    width = len(lines[0])
    for number, line in enumerate(lines):
        if len(line) != width:
            counts = f"has {len(line)} cells, its header has {width}"
            raise ValueError(f"row {number} of the table {counts}: {line}")
    if align is None:
        columns = ([line[column] for line in lines[1:]] for column in range(width))
        align = "".join("r" if all(map(_NUMBER.match, cells)) else "l" for cells in columns)
    if len(align) != width or set(align) - set("lr"):
        wanted = f"it takes one letter, l or r, for each of the {width} columns"
        raise ValueError(f"align is {align!r}; {wanted}")
    lines.insert(1, [{"l": "---", "r": "---:"}[letter] for letter in align])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_NUMBER = re.compile(r"[(×+\-−*$]*\d")  # signs, a bracket or bold type, and the first digit


def _cell(content: object) -> str:
    # one line, in which spaces that do not break stay; a bar of mathematics is no end of a cell
    return re.sub(r"[ \t\r\n]+", " ", str(content)).strip(" ").replace("|", r"\|")


def glue(name: str, value: object) -> None:
    """Store `value` in the executed notebook under `name`, for other pages to quote; unseen.

    This is the display data that the book's builder reads, written without its packages.
    """
    value = value.item() if hasattr(value, "item") else value  # else repr is "np.float64(0.5)"
    prefix = "application/papermill.record/"
    about = {"scrapbook": {"name": name, "mime_prefix": prefix}}
    display({f"{prefix}text/plain": repr(value)}, raw=True, metadata=about)


def quote(chapter: str, name: str, spec: str) -> str:
    """The role by which a page quotes, formatted, what `chapter` ("08-mnist") stored as `name`."""
    return f"{{glue:text}}`/chapters/{chapter}.ipynb::{name}:{spec}`"


def show_source(thing: object) -> None:
    """Show the source of a function or class: the tested code itself, never a copy."""
    display(Markdown(f"```python\n{inspect.getsource(thing).rstrip()}\n```"))
