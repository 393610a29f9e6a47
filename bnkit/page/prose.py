"""Measured numbers on their way into prose: nothing measured is typed by hand.

``report`` shows a sentence, ``table`` a table, whose numbers come from the cell it stands in; both
read the same in JupyterLab and in the book. ``glue`` stores a number under a name that other pages
quote through the builder's ``glue:text`` role, with the key written from the root:
``/chapters/08-mnist.ipynb::name:.3f``.
"""

import inspect
import re
from collections.abc import Iterable, Sequence

from IPython.display import Markdown, display

SITE = "text/x-myst"  # the second face of a report: the press puts it in the place of the first


def report(markdown: str, site: str | None = None) -> None:
    """Show `markdown`, an f-string whose numbers the cell computed, as text of the page.

    A report that quotes other chapters' numbers has two faces: `site`, in which they are roles of
    the book's builder, and `markdown`, which says the same to a reader in JupyterLab, where other
    chapters' numbers are not at hand.
    """
    if site is None:
        display(Markdown(markdown))
    else:
        display({"text/markdown": markdown, SITE: site}, raw=True)


def table(
    header: Sequence[object], rows: Iterable[Sequence[object]], align: str | None = None
) -> None:
    """Show a table; the arguments are those of ``as_table``."""
    report(as_table(header, rows, align))


def as_table(
    header: Sequence[object], rows: Iterable[Sequence[object]], align: str | None = None
) -> str:
    """A table: one row of column titles in `header`, then `rows`, all of the same length; cells are
    Markdown.

    `align` has one letter a column, "l" or "r". Left out, a column stands to the right when each of
    its cells begins like a number, so that digits stand below digits. Raises ValueError when a row
    or `align` has another length.
    """
    lines = [[_cell(each) for each in row] for row in (header, *rows)]
    for number, line in enumerate(lines):
        if len(line) != len(lines[0]):
            raise ValueError(
                f"row {number} of the table has {len(line)} cells, its header has "
                f"{len(lines[0])}: {line}"
            )
    if align is None:
        align = "".join(
            "r" if all(map(_NUMBER.match, column[1:])) else "l"
            for column in zip(*lines, strict=True)
        )
    if len(align) != len(lines[0]) or set(align) - set("lr"):
        raise ValueError(
            f"align is {align!r}; it takes one letter, l or r, for each of the {len(lines[0])} "
            "columns"
        )
    lines.insert(1, [{"l": "---", "r": "---:"}[letter] for letter in align])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# a sign, a bracket or bold type may stand before the first digit
_NUMBER = re.compile(r"[(×+\-−*$]*\d")


def _cell(content: object) -> str:
    # one line; a bar of mathematics is no end of a cell
    return " ".join(str(content).split()).replace("|", r"\|")


def glue(name: str, value: object) -> None:
    """Store `value` in the executed notebook under `name`, for other pages to quote; shows nothing
    by itself.

    Writes the display data that the book's builder reads, so that running a chapter needs none of
    its packages.
    """
    # the builder cannot format "np.float64(0.5)"
    value = value.item() if hasattr(value, "item") else value
    data = {"application/papermill.record/text/plain": repr(value)}
    display(
        data,
        raw=True,
        metadata={"scrapbook": {"name": name, "mime_prefix": "application/papermill.record/"}},
    )


def quote(chapter: str, name: str, spec: str) -> str:
    """The role by which a page of the book quotes what `chapter`, as "08-mnist", stored under
    `name`, formatted."""
    return f"{{glue:text}}`/chapters/{chapter}.ipynb::{name}:{spec}`"


def show_source(thing: object) -> None:
    """Show the source of a function or class as the page's code: the tested code itself, never a
    copy."""
    display(Markdown(f"```python\n{inspect.getsource(thing).rstrip()}\n```"))
