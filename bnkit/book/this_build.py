"""The page "This build": how every chapter was made. It changes when the book does, and only then."""

import hashlib
import platform
import re
from pathlib import Path

from bnkit.book.layout import Book, text_in
from bnkit.page import committed
from bnkit.page.notebook import cells_of, parameters_in, source_of
from bnkit.page.parameters import read_cell

SHOWN = ("numpy", "torch", "scikit-learn", "matplotlib", "papermill", "jupyter-book")


def page(book: Book) -> str:
    """The page, in Markdown."""
    notebooks = book.notebooks()
    listed = {book.file(document) for document in notebooks}
    files = (book.root / "chapters").glob("*.ipynb")
    left_out = ", ".join(sorted(path.stem for path in files if path not in listed))
    lines = [
        "# This build",
        "",
        f"All {len(notebooks)} chapters of this site were executed from {_origin(book)} "
        "with the parameters shown, which are the defaults. They passed their own "
        "assertions and the checks of the press before the site was built.",
        f"Not executed, and not part of the site: {left_out}."
        if left_out
        else "No chapter was left out.",
        "",
        "| chapter | parameters | notebook |",
        "| :-- | :-- | :-- |",
        *(_row(document, book.file(document)) for document in notebooks),
        "",
        "The last column begins the SHA-256 of the notebook file.",
        "",
        "## Made with",
        "",
        "| | version |",
        "| :-- | :-- |",
        f"| Python | {platform.python_version()} |",
        *(f"| {name} | {version} |" for name, version in _locked(book.lock)),
        "",
        f"The complete list is `requirements.lock` (SHA-256 `{_sha(book.lock)}`). The same "
        "sources, versions and machine give the same pages, byte for byte: there is no date here "
        "to spoil that. Each figure of recorded runs names its runs, and each run's file holds its "
        "date, machine and revision.",
        "",
        "Formulas are drawn by MathJax (Apache License 2.0), which comes with the site: it needs "
        "no network.",
    ]
    return "\n".join(lines) + "\n"


def _origin(book: Book) -> str:
    """Which notebooks they were executed from, as far as it is known."""
    if book.draft:
        return "the notebooks that lie there (this is a draft: they may differ from the committed)"
    if not committed.known(book.root):
        return "the notebooks that lie there (no git checkout: nothing says if they are committed)"
    return "their committed, clean notebooks"


def _row(document: str, notebook: Path) -> str:
    cells = cells_of(notebook)
    titles = (re.match(r"# +(.+)", source_of(cell)) for cell in cells)
    title = next((match[1] for match in titles if match), document)
    declared = (f"`{one.name}={one.default}`" for one in read_cell(parameters_in(cells)))
    parameters = ", ".join(declared).replace("|", "\\|")
    return f"| [{title}](/{document}.ipynb) | {parameters or 'none'} | `{_sha(notebook)}` |"


def _locked(lock: Path) -> list[tuple[str, str]]:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", text_in(lock), re.MULTILINE))
    return [(name, pins[name]) for name in SHOWN if name in pins]


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
