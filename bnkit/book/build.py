"""The whole way from the committed chapters to the published site; only what is out of date is made
again.
"""

from collections.abc import Callable
from pathlib import Path

from bnkit import paths
from bnkit.book import execute, site, stale
from bnkit.book.layout import Book, PressError


def build(book: Book, say: Callable[[str], None] = print) -> Path:
    """Bring the site up to date and return its first page. Raises PressError; the last good site
    stays in place."""
    site.recover(book.html)
    first, stamp = book.html / "index.html", book.build / "site.key"
    notebooks = book.notebooks()
    stale = execute.out_of_date(book)
    if not stale and first.is_file() and _read(stamp) == _key(book, notebooks):
        say(f"nothing to do: {first} is up to date")
        return first

    failures = []
    if stale:
        say(f"{len(stale)} of {len(notebooks)} chapters to execute")
        failures = execute.execute(book, stale, say)
    failed = {failure.document for failure in failures}
    good = [document for document in notebooks if document not in failed]
    problems = [f"{document} failed in {text}" for document, text in failures] + _gate(book, good)
    if problems:
        raise PressError("\n\n".join(problems))

    key = _key(book, notebooks)
    work = book.build / "site"
    say("building the site")
    pages = _pages(book, notebooks, work)
    stamp.unlink(missing_ok=True)  # until the new site is in place, nothing says which one is there
    site.publish(pages, book.html)
    paths.write_atomically(stamp, key)
    say(f"{len(book.documents())} pages: {first}")
    return first


def _gate(book: Book, documents: list[str]) -> list[str]:
    """What keeps executed chapters from being published, as text for the terminal."""
    from bnkit.book import evidence, gate  # not needed where nothing has changed

    claims = evidence.ledger(book)
    chapters = [
        gate.read(each, book.file(each), book.executed / f"{each}.ipynb") for each in documents
    ]
    pages = {
        path.relative_to(book.root).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((book.root / "chapters").glob("*.md"))
    }
    # else numbers that pages quote may be missing for that reason
    complete = len(documents) == len(book.notebooks())
    found = gate.check(chapters, pages if complete else {}) + evidence.committed(book, claims)
    found += [
        gate.Finding(each.document, *what)
        for each in chapters
        for what in evidence.measured(each, claims)
    ]
    return [str(finding) for finding in found]


def _pages(book: Book, notebooks: list[str], work: Path) -> Path:
    """Compose, build and check the site in the folder `work`; return the folder of pages."""
    from bnkit.book import compose, pages

    compose.compose(
        book, book.source, {each: book.executed / f"{each}.ipynb" for each in notebooks}
    )
    html = site.build(book.source, work)
    if findings := pages.check(html, book.documents()):
        raise PressError(
            "the built pages are not fit to be published:\n"
            + "\n".join(f"  {each}" for each in findings)
        )
    return html


def _key(book: Book, notebooks: list[str]) -> str:
    return stale.site_key(book, [execute.result(book, document) or "" for document in notebooks])


def _read(stamp: Path) -> str | None:
    return stamp.read_text(encoding="utf-8") if stamp.is_file() else None
