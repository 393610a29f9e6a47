"""A page of the press's own: a notebook that it writes, executes and builds, like a chapter.

Comparisons and sweeps are read on such pages; who wants more from the numbers goes on in the
notebook.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from bnkit.book import compose, site
from bnkit.book.chapter import workshop
from bnkit.book.layout import Book, PressError
from bnkit.book.rerun import link_to_the_book

SECONDS = 600


def text(name: str, source: str) -> dict:
    """A cell of text."""
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": source}


def code(name: str, source: str, caption: str = "", alt: str = "") -> dict:
    """A cell of code, folded on the page; with a caption, of a figure."""
    metadata: dict = {"tags": ["evidence"]}
    if caption:
        metadata["mystnb"] = {
            "figure": {"name": f"fig-{name}", "caption": caption},
            "image": {"alt": alt},
        }
    cell = {"cell_type": "code", "id": name, "metadata": metadata, "source": source}
    return {**cell, "outputs": [], "execution_count": None}


def notebook(cells: Iterable[dict]) -> dict:
    """A notebook of these cells."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def make(book: Book, folder: Path, name: str, cells: Iterable[dict]) -> tuple[Path, Path]:
    """Make the notebook ``name.ipynb`` and its page in `folder`; return both. Raises PressError."""
    work, document = folder / "work", f"chapters/{name}"
    work.mkdir(parents=True, exist_ok=True)
    clean, executed = work / f"{name}.ipynb", folder / f"{name}.ipynb"
    clean.write_text(json.dumps(notebook(cells), ensure_ascii=False), encoding="utf-8")
    with workshop(book) as shop:
        if problem := shop.run(clean, executed, {}, SECONDS, live=False):
            raise PressError(f"the page could not be made: {problem}")
    compose.compose_one(book, work / "source", document, executed)
    pages = site.build(work / "source", work / "site", strict=False)
    page = f"{document}.html"
    up = "../" * (2 + len(folder.relative_to(book.build).parts))
    link_to_the_book(pages / page, f"{up}html")
    site.publish(pages, folder / "html")
    shutil.rmtree(work, ignore_errors=True)
    return executed, folder / "html" / page
