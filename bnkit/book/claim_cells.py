"""The cells of ``chapters/claims.ipynb`` that hold a claim each, written from the ledger.

JupyterLab follows ``claims.ipynb#cell-id=c12`` to the cell ``c12``, in a notebook that has not run,
too: what became of the claim stands there as text. On the site the same link leads to the row of
the table, and these cells are left out. ``make fix`` writes them, ``make check`` holds them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from bnkit import paths
from bnkit.book.gate import Finding
from bnkit.book.layout import LEDGER, Book
from bnkit.claims import page
from bnkit.claims.ledger import Claim
from bnkit.page.notebook import WRITTEN, cells_of, tags_of


def made(claims: Mapping[str, Claim]) -> list[dict]:
    """A cell for each claim."""
    return [_cell(claim) for claim in claims.values()]


def _cell(claim: Claim) -> dict:
    lines = page.entry(claim).splitlines(keepends=True)
    about = {"tags": [WRITTEN, "remove-cell"]}
    return {"cell_type": "markdown", "id": claim.id.lower(), "metadata": about, "source": lines}


def check(book: Book, claims: Mapping[str, Claim]) -> Iterator[Finding]:
    """What is not as the ledger has it: the cells of the page, if the book has one."""
    if LEDGER not in book.written():
        return
    there = [cell for cell in cells_of(book.file(LEDGER)) if WRITTEN in tags_of(cell)]
    if [_plain(cell) for cell in there] != [_plain(cell) for cell in made(claims)]:
        problem = "has other claims in its cells than data/claims.yml; write them: make fix"
        yield Finding(LEDGER, "", problem)


def _plain(cell: dict) -> tuple:
    return cell.get("id"), cell["cell_type"], "".join(cell["source"]), cell["metadata"]


def write(book: Book, claims: Mapping[str, Claim]) -> Path | None:
    """Write the cells, at the end of the page; return the file if it was changed."""
    if LEDGER not in book.written() or not any(check(book, claims)):
        return None
    file = book.file(LEDGER)
    notebook = json.loads(file.read_bytes())
    others = [cell for cell in cells_of(notebook) if WRITTEN not in tags_of(cell)]
    text = json.dumps(notebook | {"cells": others + made(claims)}, indent=1, ensure_ascii=False)
    return paths.write_atomically(file, f"{text}\n")
