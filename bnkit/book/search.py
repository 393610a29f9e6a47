"""What the search shows of a page: its text by section, with formulas left whole.

Sphinx's own search fetches each page that it found, which a browser refuses for pages opened as
files, and cuts formulas in two. Here the text comes with the site, as a script; ``search.js`` picks
the section that fits best, and the pages in whose text the words occur most come first.
"""

import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from bnkit.book.folds import fold
from bnkit.book.layout import NO_TEACHING
from bnkit.page.notebook import EVIDENCE

SCRIPT = "searchtext.js"
UNREAD = (nodes.literal_block, nodes.raw, nodes.comment, nodes.system_message, nodes.table)
FORMULAS = (nodes.math, nodes.math_block)


def collect(app: Sphinx, document: nodes.document, page: str) -> None:
    """Called by Sphinx for each page, when all that it quotes stands in it."""
    if not page.startswith(NO_TEACHING):
        texts = app.__dict__.setdefault("texts_of_pages", {})
        texts[page] = [list(_section(section)) for section in document.findall(nodes.section)]


def write(app: Sphinx, exception: Exception | None) -> None:
    """Called by Sphinx at the end: the texts of all pages, in a form that files may load."""
    if exception is None:
        pages = dict(sorted(app.__dict__.get("texts_of_pages", {}).items()))
        text = json.dumps(pages, ensure_ascii=False, separators=(",", ":"))
        script = f"var SearchTexts = {text};\n"
        Path(app.outdir, "_static", SCRIPT).write_text(script, encoding="utf-8")


def _section(section: nodes.section) -> tuple[str, str, str]:
    """The place of a section, its title, and its own text."""
    title, *content = section.children
    return section["ids"][0], _flat(_text(title)), _flat(" ".join(map(_text, content)))


def _text(node: nodes.Node) -> str:
    if isinstance(node, nodes.Text):
        return node.astext()
    if isinstance(node, FORMULAS):
        return rf"\({node.astext()}\)"
    folded = isinstance(node, fold) and EVIDENCE in node["classes"]
    if folded or isinstance(node, (*UNREAD, nodes.section)):
        return ""
    apart = " " if isinstance(node, nodes.Body | nodes.Part) else ""
    return "".join(map(_text, node.children)) + apart


def _flat(text: str) -> str:
    return " ".join(text.split())
