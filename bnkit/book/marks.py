"""What the ledger of claims adds to the pages: a place for each link to end, and a colour for each
verdict.

JupyterLab follows ``06-inference.ipynb#cell-id=NAME`` to the cell with the id NAME, so cells that
are tagged with a claim bear just that as their id on the site: one link serves both. The rows of
the ledger bear the ids of their claims.
"""

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

LEDGER = "chapters/claims"  # the page with the table of all claims
SCRIPT = "claims.js"  # sorts and filters that table
BADGE = re.compile(r"(C\d\d) · ([a-z ]+)")


def setup(app: Sphinx) -> None:
    """Called by the extension."""
    app.connect("doctree-read", mark)
    app.connect("html-page-context", add_script)


def mark(app: Sphinx, document: nodes.document) -> None:
    """Give ids to the cells and rows that links lead to, and classes to the verdicts."""
    page = app.env.docname
    places = _cells(document)
    if page == LEDGER:
        places |= _rows(document)
    for name, node in places.items():
        node["ids"].append(name)
    # where links of the form PAGE#PLACE are looked up
    slugs = app.env.metadata[page].setdefault("myst_slugs", {})
    slugs.update({name: (0, name, name) for name in places})
    for link in document.findall(pending_xref):
        if match := BADGE.fullmatch(link.astext()):
            verdict = nodes.inline(
                "", "", *link[0].children, classes=["claim", f"claim-{match[2].replace(' ', '-')}"]
            )
            link[0].children = []
            link[0] += verdict
            if isinstance(link.parent, nodes.paragraph) and link.parent[0] is link:
                link.parent["classes"].append("claim-evidence")


def add_script(
    app: Sphinx, page: str, template: str, context: dict, document: nodes.document | None
) -> None:
    """Put the script on the ledger's own page; without it, the table is a table."""
    if page == LEDGER:
        app.add_js_file(SCRIPT, loading_method="defer")


def _cells(document: nodes.document) -> dict[str, nodes.Element]:
    """Code cells that are tagged with a claim, by the name of their place."""
    found = {}
    for cell in document.findall(nodes.container):
        about = cell.get("cell_metadata", {})
        if name := about.get("bnkit", {}).get("place"):
            found[name] = cell
    return found


def _rows(document: nodes.document) -> dict[str, nodes.Element]:
    """The rows of the table of claims, by the claims' ids in small letters; table and verdicts get
    their classes."""
    found = {}
    for row in document.findall(nodes.row):
        if re.match(r"C\d\d\b", row.astext()):
            found[row[0].astext().lower()] = row
            row[1]["classes"].append(f"claim-{row[1].astext().replace(' ', '-')}")
            table = row.parent.parent.parent
            table["classes"] = [*{*table["classes"], "claims"}]
    return found
