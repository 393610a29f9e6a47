"""Re-runs of one chapter side by side, or a re-run beside the book: one page."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from bnkit.book import execute, sheet
from bnkit.book.layout import Book, PressError
from bnkit.book.rerun import check, found
from bnkit.page import reruns
from bnkit.page.reruns import Rerun, RerunError

BOOK = "book"  # what stands for the chapter as the book shows it
LONGEST = 40  # letters of a label
MOST = 5  # runs on a page: as many as the colours tell apart

CELLS = """\
from bnkit.page.prose import report
from bnkit.plots import compared as figures
from bnkit.studies import compared as study

runs = study.load({folder!r})
report(study.summary(runs))"""
RULE = """\
▲ and ▼ mark results that are higher or lower than those of **{first}** by more than both standard
deviations over seeds together. That is a rule of thumb and no test: chance alone breaks it in one
case of five where there are two seeds, in one of twelve with three, in one of sixty with five. What
one seed alone has shown is never marked."""


def compare(book: Book, places: Sequence[str]) -> tuple[Path, Path]:
    """Lay the runs at `places`, folders of re-runs or "book", side by side; notebook and page.

    Raises PressError where one is none, where they are of different chapters, or the same.
    """
    if not 2 <= len(places) <= MOST:
        given = f"{len(places)} {'was' if len(places) == 1 else 'were'} given"
        raise PressError(f"a comparison takes 2 to {MOST} runs; {given}")
    if len({_key(place) for place in places}) < len(places):
        raise PressError(f"a run cannot be compared with itself: {', '.join(places)}")
    runs = {place: _load(place) for place in places if place != BOOK}
    if len(chapters := {run.chapter for run in runs.values()}) > 1:
        each = ", ".join(f"{place} is of {run.chapter}" for place, run in runs.items())
        raise PressError(f"only runs of one chapter can be compared; {each}")
    (chapter,) = chapters
    if BOOK in places:  # it is what the others are compared with
        runs = {BOOK: of_the_book(book, chapter), **runs}
    for place, run in runs.items():
        if not run.results:
            raise PressError(f"{place} has no results: {chapter} hands over none")
    return _page(book, chapter, runs)


def of_the_book(book: Book, chapter: str) -> Rerun:
    """What the chapter finds at its defaults; it is executed if that has not been done yet."""
    document = book.chapter(chapter)
    if execute.result(book, document) is None:
        print(f"{document} as the book shows it", flush=True)
        if failures := execute.execute(book, [document]):
            raise PressError(f"{document} failed in {failures[0].text}")
    executed = book.executed / f"{document}.ipynb"
    return found(book, document, check(book, document, {}), executed)


def labels(runs: dict[str, Rerun]) -> list[str]:
    """A name for each run: the book, or the parameters by which it differs from the others.

    Where these are too many for the head of a column, the page's table of parameters has them.
    """
    values = [run for place, run in runs.items() if place != BOOK]
    if len(values) == 1:
        values = list(runs.values())
    names = {name: None for run in values for name in run.parameters}
    telling = [n for n in names if len({repr(run.parameters.get(n)) for run in values}) > 1]
    made = []
    for number, (place, run) in enumerate(runs.items()):
        told = ", ".join(f"{n}={run.parameters.get(n)}" for n in telling)
        plain = "the re-run" if BOOK in runs and len(runs) == 2 else f"run {number + 1}"
        short = told if len(told) <= LONGEST else plain
        label = "the book" if place == BOOK else short or Path(place).resolve().name
        made.append(f"{label} ({number + 1})" if label in made else label)
    return made


def _page(book: Book, chapter: str, runs: dict[str, Rerun]) -> tuple[Path, Path]:
    called = labels(runs)
    digest = hashlib.sha256("\0".join(map(_key, runs)).encode()).hexdigest()[:8]
    folder = book.build / "compared" / f"{chapter}--{digest}"
    shutil.rmtree(folder, ignore_errors=True)
    for number, run in enumerate(runs.values()):
        run.save(folder / str(number))
    text = json.dumps(called, ensure_ascii=False)
    (folder / "labels.json").write_text(text, encoding="utf-8")
    inside = folder.relative_to(book.root).as_posix()
    cells = [
        sheet.text("title", f"# {chapter}: {' beside '.join(called)}\n\nRuns of one chapter."),
        sheet.code("load", CELLS.format(folder=inside)),
        sheet.text("parameters-title", "## What was different"),
        sheet.code("parameters", "report(study.parameters_table(runs))\nreport(study.notes(runs))"),
        sheet.text("results-title", f"## What came out\n\n{RULE.format(first=called[0])}"),
        sheet.code("results", "report(study.results_table(runs))"),
    ]
    if any(run.curves for run in runs.values()):
        caption = "The curves of the runs, laid over each other. Mean over seeds, and their range."
        alt = f"Curves of {' and '.join(called)}, one panel for each quantity."
        drawn = sheet.code("curves", "figures.curves(study.curves(runs))", caption, alt)
        cells += [sheet.text("curves-title", "## Curves"), drawn]
    return sheet.make(book, folder, "compared", cells)


def _load(place: str) -> Rerun:
    try:
        return reruns.load(Path(place))
    except RerunError as error:
        raise PressError(str(error)) from None


def _key(place: str) -> str:
    return BOOK if place == BOOK else os.path.realpath(place)
