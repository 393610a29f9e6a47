"""Teaching cells that say the same in several libraries, as tabs of the page: NumPy, PyTorch.

``parts`` says how they are tagged. The tabs are those of sphinx-design, which work without a script
and from the keyboard; with one, a choice holds for all tabs. ``print.css`` sets them below each
other.
"""

from docutils import nodes
from sphinx_design.shared import create_component

from bnkit.page.notebook import tab_of

GROUP = "library"  # tabs that are chosen together


def join(document: nodes.document) -> None:
    """Put cells that are tabs, and stand beside each other, into one set."""
    before = None
    for cell in list(document.findall(nodes.container)):
        if (label := _label(cell)) is None:
            continue
        place = cell.parent.index(cell)
        beside = place and before is not None and cell.parent[place - 1] is before
        if not beside:
            before = create_component("tab-set", classes=["sd-tab-set"])
            cell.parent.insert(place, before)
        cell.parent.remove(cell)
        before += _tab(label, cell)


def _label(cell: nodes.container) -> str | None:
    metadata = cell.get("cell_metadata")
    return tab_of({"metadata": metadata}) if metadata else None


def _tab(label: str, cell: nodes.container) -> nodes.Node:
    title = nodes.rubric(label, label, classes=["sd-tab-label"], sync_group=GROUP, sync_id=label)
    content = create_component("tab-content", children=[cell], classes=["sd-tab-content"])
    return create_component("tab-item", children=[title, content], classes=["sd-tab-item"])
