"""The first use of a word of the glossary, on every page that teaches, leads to its entry."""

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx

from bnkit.book.folds import fold
from bnkit.book.layout import NO_TEACHING

PAGE = "chapters/glossary"
# where a word is no prose, or leads elsewhere already
CLOSED = (
    nodes.reference,
    nodes.literal,
    nodes.title,
    nodes.caption,
    nodes.table,
    nodes.strong,
    fold,
)


def link(app: Sphinx, document: nodes.document, page: str) -> None:
    """Called by Sphinx for each page, once all pages are read."""
    if PAGE not in app.env.found_docs or page.startswith((*NO_TEACHING, PAGE)):
        return
    entries = _entries(app)
    if not entries:
        return
    words = "|".join(re.escape(word) for word in sorted(entries, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w-])({words})(?:e?s)?(?![\w-])", re.IGNORECASE)
    seen: set[str] = set()
    for text in list(_prose(document)):
        _link_in(text, pattern, entries, seen, app.builder.get_relative_uri(page, PAGE))


def _entries(app: Sphinx) -> dict[str, tuple[str, str]]:
    """Each word of the glossary in small letters: the id of its entry, and what it says."""
    entries = {}
    for item in app.env.get_doctree(PAGE).findall(nodes.definition_list_item):
        terms = [child for child in item.children if isinstance(child, nodes.term)]
        told = " ".join(item[-1].astext().split())
        entries |= {term.astext().lower(): (terms[0]["ids"][0], told) for term in terms}
    return entries


def _prose(document: nodes.document) -> Iterator[nodes.Text]:
    for text in document.findall(nodes.Text):
        above, node = [], text.parent
        while node is not None:
            above.append(node)
            node = node.parent
        in_text = any(isinstance(node, nodes.paragraph) for node in above)
        if in_text and not any(isinstance(node, CLOSED) for node in above):
            yield text


def _link_in(
    text: nodes.Text, pattern: re.Pattern, entries: dict, seen: set[str], page: str
) -> None:
    """Replace the first uses in one piece of text by links."""
    pieces, start, content = [], 0, text.astext()
    for match in pattern.finditer(content):
        name, told = entries[match[1].lower()]
        if name in seen:
            continue
        seen.add(name)
        pieces.append(nodes.Text(content[start : match.start()]))
        about = {"refuri": f"{page}#{name}", "reftitle": told, "classes": ["glossary-term"]}
        pieces.append(nodes.reference("", match[0], internal=True, **about))
        start = match.end()
    if pieces:
        text.parent.replace(text, [*pieces, nodes.Text(content[start:])])
