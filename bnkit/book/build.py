"""From the committed chapters to the published site; only what is out of date is made again."""

from collections.abc import Callable, Container
from pathlib import Path

from bnkit import paths
from bnkit.book import execute, site, stale
from bnkit.book.layout import Book, PressError, text_in
from bnkit.page import committed


def build(book: Book, say: Callable[[str], None] = print) -> Path:
    """Bring the site up to date; return its first page. Raises PressError, and the old site stays."""
    site.recover(book.html)
    first, stamp = book.html / "index.html", book.build / "site.key"
    if (edited := changes(book)) and not book.draft:
        raise PressError(
            "\n".join(f"{document} {problem}" for document, problem in edited.items())
            + "\nCommit it, or put back what is committed (git restore chapters), or build a draft, "
            "which says so on every page: make book DRAFT=1"
        )
    notebooks = book.notebooks()
    stale = execute.out_of_date(book)
    if not stale and _read(stamp) == f"{_key(book, notebooks)} {site.inventory(book.html)}":
        say(f"nothing to do: {first} is up to date")
        return first

    failures = []
    if stale:
        say(f"{len(stale)} of {len(notebooks)} chapters to execute")
        failures = execute.execute(book, stale, say)
    failed = {failure.document for failure in failures}
    good = [document for document in notebooks if document not in failed]
    problems = [f"{document} failed in {text}" for document, text in failures]
    problems += _gate(book, good, edited)
    if problems:
        raise PressError("\n\n".join(problems))

    key = _key(book, notebooks)
    work = book.build / "site"
    say("building the site")
    pages = _pages(book, notebooks, work)
    stamp.unlink(missing_ok=True)  # until the new site is in place, nothing says which one is there
    site.publish(pages, book.html)
    paths.write_atomically(stamp, f"{key} {site.inventory(book.html)}")
    say(f"{len(book.documents())} pages: {first}")
    return first


def changes(book: Book) -> dict[str, str]:
    """The documents that differ from what is committed, and in what; none where nobody knows."""
    if not committed.known(book.root):
        return {}
    files = {name: book.file(name).relative_to(book.root).as_posix() for name in book.written()}
    told = {document: committed.differs(book.root, file) for document, file in files.items()}
    return {document: problem for document, problem in told.items() if problem}


def _gate(book: Book, documents: list[str], edited: Container[str]) -> list[str]:
    """What keeps executed chapters from being published, as text for the terminal."""
    from bnkit.book import evidence, gate  # not needed where nothing has changed

    claims = evidence.ledger(book)
    chapters = [gate.read(name, book.file(name), _executed(book, name)) for name in documents]
    pages = {}
    if len(documents) == len(book.notebooks()):  # else numbers that pages quote may be missing
        files = {document: book.file(document) for document in book.written()}
        pages = {
            document: text_in(path) for document, path in files.items() if path.suffix == ".md"
        }
    findings = gate.check(chapters, pages) + evidence.committed(book, claims)
    for chapter in chapters:
        measured = evidence.measured(chapter, claims, chapter.document not in edited)
        findings += [gate.Finding(chapter.document, *problem) for problem in measured]
    return [str(finding) for finding in findings]


def _pages(book: Book, notebooks: list[str], work: Path) -> Path:
    """Compose, build and check the site in the folder `work`; return the folder of pages."""
    from bnkit.book import compose, pages

    compose.compose(book, book.source, {name: _executed(book, name) for name in notebooks})
    html = site.build(book.source, work)
    if findings := pages.check(html, book.documents()):
        problems = "\n".join(f"  {finding}" for finding in findings)
        raise PressError(f"the built pages are not fit to be published:\n{problems}")
    return html


def _executed(book: Book, document: str) -> Path:
    return book.executed / f"{document}.ipynb"


def _key(book: Book, notebooks: list[str]) -> str:
    return stale.site_key(book, [execute.result(book, document) or "" for document in notebooks])


def _read(stamp: Path) -> str | None:
    return stamp.read_text(encoding="utf-8") if stamp.is_file() else None
