"""Executes the chapters that are out of date, from the clean source, side by side on all cores."""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from bnkit import paths
from bnkit.book import stale
from bnkit.book.chapter import Workshop, workshop
from bnkit.book.layout import Book, PressError

SECONDS = 600  # a cell that takes longer has failed, unless BNKIT_CELL_SECONDS says otherwise


class Failure(NamedTuple):
    """A chapter that did not run to its end."""

    document: str
    text: str  # the cell and the error, for the terminal


def out_of_date(book: Book) -> list[str]:
    """The chapters that have no executed notebook made from what lies there now."""
    return [document for document in book.notebooks() if result(book, document) is None]


def result(book: Book, document: str) -> str | None:
    """The digest of a chapter's executed notebook, if it is untouched and of what lies there now."""
    notebook, stamp = _result_files(book, document)
    try:
        made = json.loads(stamp.read_bytes())
        digest = hashlib.sha256(notebook.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None
    wanted = {"key": stale.execution_key(book, document), "sha256": digest}
    return digest if made == wanted else None


def execute(book: Book, documents: list[str], say: Callable[[str], None] = print) -> list[Failure]:
    """Execute chapters and keep those that succeed; return those that failed."""
    failures, since, limit = [], {}, _limit()
    work = book.build / "work"
    shutil.rmtree(work, ignore_errors=True)

    def run(shop: Workshop, document: str) -> tuple[str, str | None, float]:
        since[document] = time.monotonic()
        problem = _execute(book, document, work, shop, limit)
        return document, problem, time.monotonic() - since.pop(document)

    with workshop(book) as shop:
        pool = ThreadPoolExecutor(_cores())
        try:
            todo = {pool.submit(run, shop, document) for document in documents}
            while todo:
                done, todo = wait(todo, timeout=1, return_when=FIRST_COMPLETED)
                for document, problem, seconds in (future.result() for future in done):
                    _say_live("")
                    took = f"{'FAILED after ' if problem else ''}{seconds:.0f} s"
                    say(f"  {document.removeprefix('chapters/'):24} {took}")
                    failures += [Failure(document, problem)] if problem else []
                now, running = time.monotonic(), list(since.items())
                _say_live(", ".join(f"{name} {now - start:.0f} s" for name, start in running))
        finally:
            shop.close()  # first, or the pool would wait for what runs
            pool.shutdown(cancel_futures=True)
            _say_live("")
            shutil.rmtree(work, ignore_errors=True)
    return sorted(failures)


def _limit() -> int:
    """How many seconds a cell may take; PressError where the environment asks for something odd."""
    given = os.environ.get("BNKIT_CELL_SECONDS") or str(SECONDS)
    if not (given.isascii() and given.isdecimal() and 1 <= int(given[:10]) <= 10**9):
        raise PressError(f"BNKIT_CELL_SECONDS is {given!r}; it must be a number of seconds, from 1")
    return int(given)


def _execute(book: Book, document: str, work: Path, shop: Workshop, limit: int) -> str | None:
    """Execute one chapter; the old result is replaced by a whole new one, or stays."""
    key = stale.execution_key(book, document)  # now: a source saved meanwhile makes it stale
    fresh = work / f"{document}.ipynb"
    fresh.parent.mkdir(parents=True, exist_ok=True)
    problem = shop.run(book.file(document), fresh, {}, limit, live=False)
    kept = book.failed / f"{document}.ipynb"
    if problem:
        if fresh.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            os.replace(fresh, kept)
            problem += f"\n  as far as it ran: {kept}"
        return problem
    kept.unlink(missing_ok=True)
    notebook, stamp = _result_files(book, document)
    content = fresh.read_bytes()
    paths.write_atomically(notebook, content)
    made = {"key": key, "sha256": hashlib.sha256(content).hexdigest()}
    paths.write_atomically(stamp, json.dumps(made))
    return None


def _result_files(book: Book, document: str) -> tuple[Path, Path]:
    return book.executed / f"{document}.ipynb", book.executed / f"{document}.json"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say_live(text: str) -> None:
    """One line that is overwritten, where somebody watches."""
    if sys.stdout.isatty():
        line = f"  running: {text}"[: shutil.get_terminal_size().columns - 1] if text else ""
        print(f"\r\x1b[2K{line}", end="", flush=True)
