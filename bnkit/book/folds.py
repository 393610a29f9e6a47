"""Folds on a page: the evidence of a passage, solutions, and what only the curious read.

A fold is HTML's own ``<details>``: it works without a script and from the keyboard, a browser
opens it where a search or a link leads inside, and ``print.css`` says which are open on paper.
"""

from html import escape
from itertools import pairwise

from docutils import nodes
from sphinx.application import Sphinx

from bnkit.book.parts import CURIOUS
from bnkit.page.notebook import EVIDENCE, FOLDED_OUTPUT, SOLUTION
from bnkit.page.prose import KEPT

GLUED = "application/papermill.record/"  # the kind of an output that only other pages quote


class fold(nodes.General, nodes.Element):
    """What can be opened; "label" is what to click on, "about" smaller words behind it."""


def setup(app: Sphinx) -> None:
    """Teach Sphinx the node."""
    app.add_node(fold, html=(_open, _close))


def _open(translator: nodes.NodeVisitor, node: fold) -> None:
    about = f' <span class="about">{escape(node["about"])}</span>' if node.get("about") else ""
    summary = f"<summary><span>{escape(node['label'])}</span>{about}</summary>"
    translator.body.append(f'<details class="{" ".join(["fold", *node["classes"]])}">{summary}\n')


def _close(translator: nodes.NodeVisitor, node: fold) -> None:
    translator.body.append("</details>\n")


def fold_page(document: nodes.document) -> None:
    """Fold the evidence, cells that follow each other together, and the sections for the curious."""
    cells = list(filter(_is_evidence, document.findall(nodes.container)))
    breaks = [i + 1 for i, pair in enumerate(pairwise(cells)) if not _belong_together(*pair)]
    for first, last in pairwise([0, *breaks, len(cells)]):
        _fold_cells(cells[first:last])
    for section in list(document.findall(nodes.section)):
        if section[0].astext().startswith(CURIOUS):
            inside = fold("", *section[1:], label="Read on", classes=["curious"])
            section[1:] = [inside]


def _is_evidence(node: nodes.Element) -> bool:
    return node.get("nb_element") == "cell_code" and f"tag_{EVIDENCE}" in node["classes"]


def _is_solution(cell: nodes.Element) -> bool:
    return f"tag_{SOLUTION}" in cell["classes"]


def _belong_together(cell: nodes.Element, follower: nodes.Element) -> bool:
    neighbours = cell.parent is follower.parent
    neighbours = neighbours and cell.parent.index(follower) == cell.parent.index(cell) + 1
    ends = _is_solution(cell) or f"tag_{FOLDED_OUTPUT}" in cell["classes"]
    return neighbours and not ends and not _is_solution(follower)


def _fold_cells(cells: list[nodes.Element]) -> None:
    """Put a fold of the cells' sources, and of outputs for the records, in the cells' place."""
    if not cells:
        return
    parent, place = cells[0].parent, cells[0].parent.index(cells[0])
    about = " · ".join(map(_name, cells))
    if _is_solution(cells[0]):
        folded = fold("", label="Solution", classes=["solution"])
    elif "tag_parameters" in cells[0]["classes"]:
        folded = fold("", label="Parameters and set-up", about=about, classes=[EVIDENCE])
    else:
        folded = fold("", label="Evidence", about=about, classes=[EVIDENCE])
    shown = []
    for cell in cells:
        part, outputs = _split(cell)
        folded += part
        shown += [outputs] if outputs.children else []
        parent.remove(cell)
    passage = nodes.container("", folded, *shown, classes=["passage"])
    parent.insert(place, passage)


def _split(cell: nodes.Element) -> tuple[nodes.Element, nodes.Element]:
    """A cell's part in the fold, and its outputs that readers see."""
    part = nodes.container("", classes=["cell"], ids=cell["ids"])
    shown, kept = (nodes.container("", classes=["cell_output"]) for _ in range(2))
    folded = {f"tag_{SOLUTION}", f"tag_{FOLDED_OUTPUT}"} & set(cell["classes"])
    for element in cell.children:
        if element.get("nb_element") != "cell_code_output":
            part += element
            continue
        for output in element.children:
            target = kept if folded or _is_kept(output) else shown
            target += output
    part += [kept] if kept.children else []
    return part, nodes.container("", shown, classes=["cell"]) if shown.children else shown


def _is_kept(output: nodes.Element) -> bool:
    """Whether an output is for the records: a line of the ledger, or a number for other pages."""
    if any(KEPT in node["classes"] for node in output.findall(nodes.container)):
        return True
    kinds = [child.get("mime_type", "") for child in output.children]
    return bool(kinds) and all(kind.startswith(GLUED) for kind in kinds)


def _name(cell: nodes.Element) -> str:
    """The cell's id in words: "C21: no bounds" for c21-no-bounds."""
    words = cell["cell_metadata"].get("bnkit", {}).get("id", "").split("-")
    if words[0][:1] == "c" and words[0][1:].isdigit():
        return f"{words[0].upper()}: {' '.join(words[1:])}"
    return " ".join(words)
