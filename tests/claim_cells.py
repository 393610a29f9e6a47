"""The cells of a chapter that carry claims, run by themselves: what they hand to the ledger."""

import json
from collections.abc import Sequence
from unittest.mock import patch

from bnkit import claims, paths
from bnkit.claims import ledger
from bnkit.page import prose


class Note(dict):
    """Stands in for the chapter's part of the ledger: keeps what is measured, judges nothing."""

    def __init__(self):
        self.glued = {}  # what is stored for other pages, by name

    def measured(self, claim: str, **values: float) -> None:
        self[claim] = {name: float(value) for name, value in values.items()}


def handed_over(chapter: str, before: Sequence[str], asserting: bool = True, **names) -> Note:
    """What the cells tagged with claims hand over, by claim and name.

    Cells whose id is in `before` run too, in the order of the page; `names` are there from the
    start. Without `asserting` the cells' own assertions are left out, for the ledger to judge.
    """
    text = (paths.root() / "chapters" / f"{chapter}.ipynb").read_text(encoding="utf-8")
    note = Note()
    glue = patch.object(prose, "glue", note.glued.__setitem__)
    with glue, patch.object(claims, "of", lambda *_: note):
        for cell in json.loads(text)["cells"]:
            carries = any(tag.startswith("claim:") for tag in cell["metadata"].get("tags", []))
            if cell["cell_type"] == "code" and (carries or cell["id"] in before):
                optimize = 0 if asserting else 1
                exec(compile("".join(cell["source"]), cell["id"], "exec", optimize=optimize), names)
    return note


def broken(note: Note) -> list[str]:
    """What the ledger finds wrong with the values that were handed over."""
    entries = ledger.read()
    return [problem for claim, values in note.items() for problem in entries[claim].broken(values)]
