"""The role ``minutes``: how long a page takes to read, as ``{minutes}`08-mnist```.

A page that says so itself, "Reading time: about 12 minutes", is taken at its word, so that no two
pages differ, and held to it: the words are counted that a reader sees, folds left out.
"""

import re

from docutils import nodes
from docutils.nodes import Element
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.docutils import SphinxRole

from bnkit.book.folds import fold

SAID = re.compile(r"Reading time: about (\d+)\s+minutes?")
WORDS, FIGURE = 180, 0.5  # words a minute; minutes for a figure
UNREAD = (nodes.literal_block, nodes.raw, nodes.comment, nodes.math, nodes.math_block, fold)


class minutes(nodes.Inline, nodes.Element):
    """The minutes of a page, until all pages are read."""


class Minutes(SphinxRole):
    """``{minutes}`08-mnist```."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        return [minutes("", page=f"chapters/{self.text}")], []


def connect(app: Sphinx) -> None:
    """Teach Sphinx the role."""
    app.add_role("minutes", Minutes())
    app.connect("doctree-read", _hold, priority=900)  # when its folds are there
    app.connect("doctree-resolved", _fill)


def _hold(app: Sphinx, document: nodes.document) -> None:
    told, words = said(document), counted(document)
    if told and not 2 / 3 <= told / words <= 3 / 2:
        page = app.env.docname
        raise SphinxError(f"{page} says that it takes {told} minutes; its words take {words}")


def _fill(app: Sphinx, document: nodes.document, _: str) -> None:
    for node in list(document.findall(minutes)):
        if node["page"] not in app.env.found_docs:
            raise SphinxError(f"there is no page {node['page']!r} to count the minutes of")
        node.replace_self(nodes.Text(str(count(app.env.get_doctree(node["page"])))))


def count(document: nodes.document) -> int:
    """The minutes of a page: those that it says, else those that its words and figures take."""
    return said(document) or counted(document)


def said(document: nodes.document) -> int | None:
    """The minutes that a page says it takes; None where it says nothing."""
    found = SAID.search(" ".join(document.astext().split()))
    return int(found[1]) if found else None


def counted(document: nodes.document) -> int:
    """The minutes that the words and figures of a page take."""
    words = len(re.findall(r"\w+", " ".join(_seen(document))))
    figures = sum(1 for _ in document.findall(nodes.figure))
    return max(1, round(words / WORDS + FIGURE * figures))


def _seen(element: Element) -> list[str]:
    if isinstance(element, UNREAD):
        return []
    if isinstance(element, nodes.Text):
        return [element.astext()]
    return [text for child in element.children for text in _seen(child)]
