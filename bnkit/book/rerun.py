"""One chapter again with other parameters: notebook, page, results and runs, beside the book.

A re-run lies in a folder of its own, which is there whole or not at all: it is made beside its
place and moved there. Parameters that differ never share a folder.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock

from bnkit import paths
from bnkit.book import site, stale
from bnkit.book.chapter import workshop
from bnkit.book.layout import Book, PressError
from bnkit.book.words import as_words, read_value
from bnkit.page import parameters, reruns
from bnkit.page.notebook import cells_of, parameters_in
from bnkit.page.parameters import ParameterError, Parameters
from bnkit.page.quantities import curves_in, found_in
from bnkit.page.reruns import Rerun, RerunError

SECONDS = 7 * 24 * 3600  # a rerun may be a long experiment
VERSIONS = ("numpy", "torch", "scikit-learn")  # what numbers depend on, beside Python
LIVE = "BNKIT_LIVE"  # the folder in which a chapter keeps the runs that it trains (runs.live)


def rerun(book: Book, name: str, given: str) -> tuple[Path, Path]:
    """Run chapter `name` with parameters `given`, "steps=5000 seeds=3"; return notebook and page.

    They are checked as the chapter will check them, before anything starts. Raises PressError.
    """
    from bnkit.book import compose

    document = book.chapter(name)
    values = read_parameters(book.file(document), given)
    checked = check(book, document, values)
    folder = place(book, document, checked)
    site.recover(folder)
    fresh = folder.with_name(f".{folder.name}.part")  # a stopped one goes on from its runs
    folder.parent.mkdir(parents=True, exist_ok=True)
    notebook = f"{Path(document).name}.ipynb"
    with FileLock(fresh.with_suffix(".lock")), workshop(book) as shop:
        _begin(fresh, stale.source_key(book, document))
        executed, began = fresh / notebook, time.monotonic()
        print(f"{document} with {given or 'its defaults'}", flush=True)
        environment = {LIVE: str(fresh / "runs")}
        if problem := shop.run(
            book.file(document), executed, values, SECONDS, live=True, environment=environment
        ):
            kept = keep_failed(book, executed, f"{folder.name}.ipynb")
            raise PressError(f"{document} failed in {problem}\n  as far as it ran: {kept}")
        found(book, document, checked, executed, time.monotonic() - began).save(fresh)
        compose.compose_one(book, fresh / "source", document, executed)
        # Not strict: links lead to chapters that are not part of this small site.
        pages = site.build(fresh / "source", fresh / "work", strict=False)
        link_to_the_book(pages / f"{document}.html")
        site.publish(pages, fresh / "html")
        for scratch in ("source", "work"):
            shutil.rmtree(fresh / scratch, ignore_errors=True)
        (fresh / ".source").unlink()
        site.publish(fresh, folder)
    return folder / notebook, folder / "html" / f"{document}.html"


def check(book: Book, document: str, values: Mapping[str, object]) -> Parameters:
    """The parameters of a run as the chapter will have them. Raises PressError as it will refuse."""
    try:
        return parameters.dry_run(book.file(document), dict(values))
    except ParameterError as error:
        raise PressError(str(error)) from error


def found(
    book: Book, document: str, checked: Parameters, executed: Path, seconds: float = 0.0
) -> Rerun:
    """What an executed notebook found. Raises PressError where that cannot be read."""
    try:
        cells = cells_of(executed)
        results, curves = found_in(cells), tuple(curves_in(cells))
    except (OSError, ValueError) as error:  # ResultError is a ValueError
        raise PressError(f"{executed}: {error}") from error
    return Rerun(
        chapter=Path(document).name,
        parameters=dict(checked),
        changed=checked.changed(),
        results=results,
        curves=curves,
        versions=versions(),
        seconds=round(seconds, 1),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        source=stale.source_key(book, document),
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on, and the platform."""
    made_with = {"platform": stale.PLATFORM}
    for name in VERSIONS:
        with suppress(PackageNotFoundError):
            made_with[name] = version(name)
    return made_with


def keep_failed(book: Book, executed: Path, name: str) -> Path:
    """Move a notebook that failed, as far as it ran, to where it can be read."""
    kept = book.failed / "reruns" / name
    if executed.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(executed, kept)
    return kept


def _begin(fresh: Path, source: str) -> None:
    """Make the folder in which a re-run is made; what a stopped one left stays if its code does."""
    stamp = fresh / ".source"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != source:
        shutil.rmtree(fresh, ignore_errors=True)
        paths.write_atomically(stamp, source)


def link_to_the_book(page: Path, up: str = "../../../../html") -> None:
    """Let links to other chapters, which a small site does not have, lead to the whole book."""
    text = page.read_text(encoding="utf-8")
    target = rf'href="{up}/chapters/\1.html\2"'
    linked = re.sub(r'href="#([\w-]+)\.(?:ipynb|md)(#[^"]*)?"', target, text)
    page.write_text(linked, encoding="utf-8")


# Which parameters


def read_parameters(notebook: Path, given: str) -> dict[str, object]:
    """Parse "steps=5000 quick=false" by the types that the notebook declares.

    What cannot be parsed stays text, undeclared names stay: the chapter's check refuses both.
    """
    types = declared_types(notebook)
    values: dict[str, object] = {}
    for name, text in as_words(given):
        if name in values:
            raise PressError(f"{name} is given twice")
        values[name] = read_value(text, types.get(name, "str"))
    return values


def declared_types(notebook: Path) -> dict[str, str]:
    """The types that a chapter declares for its parameters. Raises PressError."""
    try:
        declared = parameters.read_cell(parameters_in(cells_of(notebook)))
    except (OSError, ValueError) as error:  # ParameterError is a ValueError
        raise PressError(f"{notebook}: {error}") from error
    return {parameter.name: parameter.type for parameter in declared}


# Where


def place(book: Book, document: str, checked: Parameters) -> Path:
    """The folder of a re-run, named after what differs from the defaults.

    Where a run of other parameters lies there, made when the defaults were others, the name gets a
    digest: no re-run is replaced by one of other parameters.
    """
    changed = {name: checked[name] for name in checked if name in checked.changed()}
    folder = book.build / "reruns" / folder_name(document, changed)
    with suppress(RerunError):
        if reruns.load(folder).parameters != as_json(dict(checked)):
            return folder.with_name(f"{folder.name}-{digest(dict(checked))}")
    return folder


def as_json(values: Mapping) -> dict:
    """The values as they come back from JSON."""
    return json.loads(json.dumps(dict(values)))


def folder_name(document: str, values: Mapping[str, object]) -> str:
    """``08-mnist--steps-5000-seeds-3``; unlike parameters never share a folder."""
    words = [str(word) for pair in values.items() for word in pair]
    plain = "-".join(words) or "defaults"
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", plain)[:80]
    clear = readable == plain and not any("-" in word for word in words)
    return f"{Path(document).name}--{readable}" + ("" if clear else f"-{digest(values)}")


def digest(values: Mapping[str, object]) -> str:
    """Eight letters that differ where the values do."""
    return hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:8]
