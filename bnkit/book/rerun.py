"""One chapter again with other parameters, as a notebook and as a page, beside the book."""

import hashlib
import re
import shlex
from pathlib import Path

from filelock import FileLock

from bnkit.book import site
from bnkit.book.chapter import workshop
from bnkit.book.layout import Book, PressError
from bnkit.page import parameters
from bnkit.page.notebook import cells_of, parameters_in

SECONDS = 7 * 24 * 3600  # a rerun may be a long experiment


def rerun(book: Book, name: str, given: str) -> tuple[Path, Path]:
    """Run chapter `name` with parameters `given`, "steps=5000 seeds=3"; return notebook and page.

    They are checked as the chapter will check them, before anything starts. Raises PressError.
    """
    from bnkit.book import compose

    document = book.chapter(name)
    try:
        values = read_parameters(book.file(document), given)
        parameters.dry_run(book.file(document), values)
    except parameters.ParameterError as error:
        raise PressError(str(error)) from error
    folder = book.build / "reruns" / folder_name(document, values)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"), workshop(book) as shop:
        executed = folder / f"{Path(document).name}.ipynb"
        print(f"{document} with {given or 'its defaults'}", flush=True)
        if problem := shop.run(book.file(document), executed, values, SECONDS, live=True):
            raise PressError(f"{document} failed in {problem}\n  as far as it ran: {executed}")
        compose.compose_one(book, folder / "source", document, executed)
        # Not strict: links lead to chapters that are not part of this small site.
        pages = site.build(folder / "source", folder / "work", strict=False)
        link_to_the_book(pages / f"{document}.html")
        site.publish(pages, folder / "html")
    return executed, folder / "html" / f"{document}.html"


def link_to_the_book(page: Path) -> None:
    """Let links to other chapters, which this small site does not have, lead to the whole book."""
    text = page.read_text(encoding="utf-8")
    target = r'href="../../../../html/chapters/\1.html\2"'
    linked = re.sub(r'href="#([\w-]+)\.(?:ipynb|md)(#[^"]*)?"', target, text)
    page.write_text(linked, encoding="utf-8")


def read_parameters(notebook: Path, given: str) -> dict[str, object]:
    """Parse "steps=5000 quick=false" by the types that the notebook declares.

    What cannot be parsed stays text, undeclared names stay: the chapter's check refuses both.
    """
    declared = parameters.read_cell(parameters_in(cells_of(notebook)))
    types = {parameter.name: parameter.type for parameter in declared}
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise PressError(f"PARAMS {given!r} cannot be read: {error}") from error
    values: dict[str, object] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise PressError(f"{word!r} is no parameter; write NAME=VALUE, for example steps=5000")
        if name in values:
            raise PressError(f"{name} is given twice")
        values[name] = _read(text, types.get(name, "str"))
    return values


def folder_name(document: str, values: dict[str, object]) -> str:
    """``08-mnist--steps-5000-seeds-3``; unlike parameters never share a folder."""
    plain = "-".join(f"{name}-{value}" for name, value in values.items()) or "defaults"
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", plain)[:80]
    digest = hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:8]
    return f"{Path(document).name}--{readable}" + (f"-{digest}" if readable != plain else "")


def _read(text: str, kind: str) -> object:
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        return {"int": int, "float": float}.get(kind, str)(text)
    except (KeyError, ValueError):
        return text
