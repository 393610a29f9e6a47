"""One point of a sweep, run where a worker stands: on this machine or on another.

What a worker gets and gives back is text, so that it needs no folder in common with who asks; it
needs a checkout of the same state, which it finds as every process does (``$BNKIT_ROOT``).
"""

import time
from pathlib import Path
from typing import NamedTuple

from bnkit import paths
from bnkit.book import stale
from bnkit.book.chapter import workshop
from bnkit.book.layout import Book, PressError
from bnkit.book.rerun import LIVE, SECONDS, check, found


class Task(NamedTuple):
    """A chapter with parameters."""

    document: str
    values: dict[str, object]
    source: str  # digest of the chapter and its code, where it was asked for
    live: str  # a folder with runs trained already, and for those that are trained now


class Outcome(NamedTuple):
    """What came of it."""

    problem: str | None  # what went wrong, for the terminal
    notebook: str = ""  # as far as it ran
    results: str = ""  # the content of results.json
    runs: tuple[tuple[str, str], ...] = ()  # names and contents, where the folder cannot be reached


def run(task: Task) -> Outcome:
    """Execute the chapter; never raises for what a chapter may do wrong."""
    book = Book(paths.root())
    if stale.source_key(book, task.document) != task.source:
        return Outcome("the worker's checkout is of another state than the one that asks")
    name, began = Path(task.document).name, time.monotonic()
    try:
        with workshop(book) as shop:
            executed, shared = shop.folder / f"{name}.ipynb", Path(task.live)
            live = shared if shared.is_dir() else shop.folder / "runs"
            clean, places = book.file(task.document), {LIVE: str(live)}
            problem = shop.run(clean, executed, task.values, SECONDS, False, places)
            text = executed.read_text(encoding="utf-8") if executed.is_file() else ""
            if problem:
                return Outcome(problem, text)
            checked, seconds = check(book, task.document, task.values), time.monotonic() - began
            results = found(book, task.document, checked, executed, seconds).as_text()
            return Outcome(None, text, results, () if live == shared else _texts(live))
    except (PressError, OSError) as error:
        return Outcome(str(error))


def _texts(live: Path) -> tuple[tuple[str, str], ...]:
    files = sorted(live.rglob("*.json"))
    return tuple((f.relative_to(live).as_posix(), f.read_text(encoding="utf-8")) for f in files)
