"""The ledger of claims against the chapters: links lead somewhere, verdicts stand on measurements.

``committed`` looks at what is written, cells, tags, badges and tests; ``measured`` at what an
executed chapter stored. Every finding names the claim.
"""

import ast
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bnkit.book import claim_cells
from bnkit.book.gate import Chapter, Finding, glued_name
from bnkit.book.layout import LEDGER as PAGE
from bnkit.book.layout import Book, PressError, text_in
from bnkit.claims.ledger import Claim, LedgerError, read
from bnkit.page.notebook import CLAIM, cells_of, claims_of, source_of, text_of

LEDGER = "data/claims.yml"
BADGE = re.compile(r"\[(C\d+) · ([^\]]*)\]\(([^)]*)\)")
LINK = re.compile(r"\]\(([\w./-]+)\.ipynb#([^)\s]*)\)")
PLACE = "cell-id="  # what the place of a cell begins with, on the site as in JupyterLab

Ledger = Mapping[str, Claim]


def ledger(book: Book) -> Ledger:
    """The book's ledger, empty if it has none. Raises PressError with all that is wrong in it."""
    path = book.root / LEDGER
    try:
        return read(path) if path.is_file() else {}
    except LedgerError as error:
        raise PressError(str(error)) from error


def committed(book: Book, claims: Ledger) -> list[Finding]:
    """What does not fit between the ledger, the committed chapters and pages, and the tests."""
    cells = {document: cells_of(book.file(document)) for document in book.notebooks()}
    pages = [document for document in book.written() if document not in cells]
    texts = {document: text_in(book.file(document)) for document in pages}
    texts |= {document: text_of(here) for document, here in cells.items()}
    findings = [
        Finding(LEDGER, "", f"{claim.id} {problem}")
        for claim in claims.values()
        for problem in (*_claim(claim, cells, texts), *_test(claim, book.root))
    ]
    for document, here in cells.items():
        findings += [Finding(document, *problem) for problem in _tags(here, claims)]
    for document, text in texts.items():
        findings += [Finding(document, "", problem) for problem in _badges(text, claims)]
    texts |= {document: "\n".join(map(source_of, here)) for document, here in cells.items()}
    for document, text in texts.items():
        folder = posixpath.dirname(document)
        problems = _links(text, folder, cells, claims)
        findings += [Finding(document, "", problem) for problem in problems]
    return [*findings, *claim_cells.check(book, claims)]


def measured(chapter: Chapter, claims: Ledger, at_defaults=True) -> Iterator[tuple[str, str]]:
    """What an executed chapter did not store for its claims, or stored and should not have.

    Relations that hold for the chapter's defaults only are left out unless it ran `at_defaults`.
    """
    cells = {cell["id"]: cell for cell in cells_of(chapter.executed)}
    for claim in claims.values():
        if f"chapters/{claim.chapter}" != chapter.document or claim.evidence == "pending":
            continue
        stored = _stored(cells.get(claim.cell, {}))
        values = {key: stored.get(claim.name(key)) for key in claim.measured}
        if missing := [key for key, value in values.items() if value is None]:
            yield claim.cell, f"stores nothing for {claim.id}: {', '.join(missing)}"
        elif at_defaults or not claim.only_at_defaults:
            yield from ((claim.cell, problem) for problem in claim.broken(values))


def _claim(claim: Claim, cells: Mapping[str, list], texts: Mapping[str, str]) -> Iterator[str]:
    document = f"chapters/{claim.chapter}"
    if claim.evidence == "pending":
        if document in cells:
            yield f"is pending, but {claim.chapter} is in the book by now: say what it measures there"
        return
    if document not in cells:
        yield f"has its evidence in {claim.chapter}, which is no chapter in _toc.yml"
        return
    cell = {cell["id"]: cell for cell in cells[document]}.get(claim.cell)
    evidence = f"has its evidence in the cell {claim.cell!r} of {claim.chapter}"
    if cell is None:
        yield f"{evidence}, which has no such cell"
    elif cell["cell_type"] != "code" or claim.id not in claims_of(cell):
        yield f"{evidence}, which is not tagged {CLAIM}{claim.id}"
    if claim.badge not in texts[document]:
        yield f"is {claim.verdict!r}, but {claim.chapter} does not say so beside the sentence: {claim.badge}"


def _test(claim: Claim, root: Path) -> Iterator[str]:
    if claim.test:
        path, _, name = claim.test.partition("::")
        file = root / path
        if not file.is_file() or name not in _functions(file):
            yield f"is enforced by {claim.test}, which is no test; write it as tests/test_NAME.py::test_NAME"


def _tags(cells: list[dict], claims: Ledger) -> Iterator[tuple[str, str]]:
    for cell in cells:
        for name in claims_of(cell):
            if name not in claims:
                yield cell["id"], f"is tagged {CLAIM}{name}, which is no claim of the ledger"


def _badges(text: str, claims: Ledger) -> Iterator[str]:
    for name, verdict, target in BADGE.findall(text):
        if name not in claims:
            yield f"speaks of {name}, which is no claim of the ledger"
        elif f"[{name} · {verdict}]({target})" != claims[name].badge:
            yield f"calls {name} {verdict!r} and links to {target}; the ledger says {claims[name].badge}"


def _links(text: str, folder: str, cells: Mapping[str, list], claims: Ledger) -> Iterator[str]:
    """Links from a page in `folder` to a cell: it must be one that site and JupyterLab both find."""
    for name, place in LINK.findall(text):
        document = posixpath.normpath(posixpath.join(folder, name))
        link, cell = f"links to {name}.ipynb#{place}", place.removeprefix(PLACE)
        there = [claims_of(one) for one in cells.get(document, []) if one["id"] == cell]
        if cell == place:
            yield f"{link}, which JupyterLab does not follow; write {name}.ipynb#{PLACE}{place}"
        elif document == PAGE and cell.upper() not in claims:
            yield f"{link}, which is no claim of the ledger"
        elif document != PAGE and not there:
            yield f"{link}; {name} has no such cell"
        elif document != PAGE and not there[0]:
            yield f"{link}, a cell that measures no claim: it has no place on the site"


def _functions(file: Path) -> set[str]:
    try:
        body = ast.parse(text_in(file)).body
    except SyntaxError as error:
        raise PressError(f"{file} is not Python: {error}") from None
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


def _stored(cell: dict) -> dict[str, float]:
    """The numbers that a cell glued, by name."""
    stored = {}
    for output in cell.get("outputs", []):
        if name := glued_name(output):
            (text,) = output["data"].values()
            value = ast.literal_eval("".join(text))
            if type(value) in (int, float):
                stored[name] = value
    return stored
