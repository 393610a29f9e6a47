"""Every point of a grid of parameters: checked first, run side by side, one table and one figure.

A sweep lies in a folder named after its grid. A point that is done is not run again, so a sweep
that was stopped goes on; points that fail are named and tried again by the next call.
"""

import csv
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from tqdm import tqdm

from bnkit import engines, paths
from bnkit.book import chapter, points, rerun, sheet, stale
from bnkit.book.layout import Book, PressError
from bnkit.book.points import Outcome, Task
from bnkit.book.words import as_words, read_values
from bnkit.page import reruns
from bnkit.page.notebook import cells_of
from bnkit.page.parameters import Parameters
from bnkit.page.quantities import hands_over
from bnkit.page.reruns import FILE, Rerun, RerunError

MOST = 10_000  # points: more is a slip of the pen
CELLS = """\
from bnkit.page.prose import report
from bnkit.plots import compared as figures
from bnkit.studies import swept as study

sweep = study.load({folder!r})
report(sweep.says)"""


class Point(NamedTuple):
    """One point of a grid."""

    name: str  # of its folder
    values: dict[str, object]
    checked: Parameters


class Swept(NamedTuple):
    """A sweep that has been made, as far as it went."""

    folder: Path
    page: Path | None  # None where no point succeeded
    failed: dict[str, str]  # the problem, by the name of the point


def sweep(book: Book, name: str, given: str, executor: Executor | None = None) -> Swept:
    """Run chapter `name` at every point of the grid `given`, "learning_rate=0.1,0.5 seeds=3".

    By `executor`, or side by side on the cores there are. Raises PressError, before anything
    starts, with every point that the chapter would refuse.
    """
    document = book.chapter(name)
    axes = read_grid(book.file(document), given)
    todo = check(book, document, axes)
    if not hands_over(cells_of(book.file(document))):
        raise PressError(f"{name} hands over no results: there is nothing to put into a table")
    folder = book.build / "sweeps" / folder_name(document, axes)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        failed = _run(book, document, folder, todo, executor)
        with suppress(OSError):  # a point that failed lies there, and is taken up by the next call
            (folder / "unfinished").rmdir()
        done = {p.name: None if p.name in failed else _done(folder, p) for p in todo}
        if not any(done.values()):
            return Swept(folder, None, failed)
        write_table(folder / "table.csv", axes, todo, done)
        _, page = _page(book, document, folder, axes, todo, failed)
        return Swept(folder, page, failed)


# The grid


def folder_name(document: str, axes: Mapping[str, list]) -> str:
    """``08-mnist--learning_rate-0.1_0.5-seeds-3``; unlike grids never share a folder."""
    words = {name: "_".join(map(str, values)) for name, values in axes.items()}
    clear = not any("_" in str(value) for values in axes.values() for value in values)
    return rerun.folder_name(document, words if clear else axes)


def read_grid(notebook: Path, given: str) -> dict[str, list[object]]:
    """The values of each parameter in "learning_rate=0.1,0.5,2 seeds=3". Raises PressError."""
    types, axes = rerun.declared_types(notebook), {}
    for name, text in as_words(given):
        if name in axes:
            raise PressError(f"{name} is given twice")
        axes[name] = read_values(text, types.get(name, "str"))
        spelt = list(map(repr, axes[name]))
        if twice := [value for value in dict.fromkeys(spelt) if spelt.count(value) > 1]:
            raise PressError(f"{name} has the value {twice[0]} twice")
        if not axes[name]:
            raise PressError(f"{name} has no value; write {name}=VALUE,VALUE")
    if not axes:
        raise PressError('a sweep needs parameters: PARAMS="learning_rate=0.1,0.5,2 seeds=3"')
    return axes


def check(book: Book, document: str, axes: Mapping[str, list]) -> list[Point]:
    """The points of a grid, checked as the chapter will check them. Raises PressError."""
    grid = [dict(zip(axes, values, strict=True)) for values in _product(axes)]
    made, refused = [], {}
    for values in grid:
        try:
            checked = rerun.check(book, document, values)
        except PressError as error:
            refused[_told(values)] = str(error)
            continue
        name = rerun.folder_name(document, values).partition("--")[2]
        made.append(Point(name, values, checked))
    if refused:
        first, *more = refused.items()
        others = "".join(f"\n  {told}" for told, _ in more[:20])
        also = f"\n\nand {len(more)} others, among them:{others}" if more else ""
        head = f"{len(refused)} of {len(grid)} points are refused, and nothing was started."
        raise PressError(f"{head}\n{first[0]}:\n{first[1]}{also}")
    return made


def _product(axes: Mapping[str, list]) -> Iterable[tuple]:
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > MOST:
        raise PressError(f"this grid has {count:,} points; at most {MOST:,} make a sweep")
    return product(*axes.values())


def _told(values: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())


# The points


def _run(
    book: Book, document: str, folder: Path, todo: list[Point], executor: Executor | None
) -> dict[str, str]:
    """Run the points that are not done; return what went wrong, by name."""
    source = stale.source_key(book, document)
    missing = [point for point in todo if not _done(folder, point, source)]
    for point in missing:
        (_fresh(folder, point) / "runs").mkdir(parents=True, exist_ok=True)
    if not executor:
        _train_together(book, document, folder, missing)
    own = None if executor else ThreadPoolExecutor(min(engines.cores(), len(missing) or 1))
    failed: dict[str, str] = {}
    futures: dict[Future, Point] = {}
    try:
        for point in missing:
            task = Task(document, point.values, source, str(_fresh(folder, point) / "runs"))
            futures[(executor or own).submit(points.run, task)] = point
        done = len(todo) - len(missing)
        with tqdm(total=len(todo), initial=done, unit="point", disable=None) as bar:
            for future in as_completed(futures):
                point, problem = futures[future], _store(folder, futures[future], future)
                told = f"FAILED: {_short(problem)}" if problem else "done"
                bar.write(f"{_told(point.values)}: {told}")
                failed |= {point.name: problem} if problem else {}
                bar.update()
    finally:
        for future in futures:
            future.cancel()
        if own:
            chapter.close_all()  # else the threads would wait for what runs
            own.shutdown(cancel_futures=True)
    return {point.name: failed[point.name] for point in todo if point.name in failed}


def _train_together(book: Book, document: str, folder: Path, missing: list[Point]) -> None:
    """Train the networks of all points as one bank, where the chapter says which those are.

    It is not needed: what is not there when a point runs is trained by the point itself.
    """
    content = json.loads(book.file(document).read_bytes())
    if not (function := content["metadata"].get("bnkit", {}).get("ahead")) or len(missing) < 2:
        return
    asked = [(str(_fresh(folder, p) / "runs"), dict(p.checked)) for p in missing]
    command = chapter.program("from bnkit.studies import ahead; ahead.main()", function)
    parent = {engines.PARENT: str(os.getpid())}
    environment = {**os.environ, "BNKIT_ROOT": str(book.root), **parent}
    # not in this group: Ctrl-C is for the press, which ends the other, and says so in a word
    own = {"env": environment, "start_new_session": True}
    done = subprocess.run(command, input=json.dumps(asked), text=True, check=False, **own)
    if done.returncode:
        print("the networks could not be trained together; each point trains its own", flush=True)


def _store(folder: Path, point: Point, future: Future) -> str | None:
    """Put what a worker gave back into its place, whole or not at all; return what went wrong."""
    if error := future.exception():  # the engine's: a worker that was lost once too often
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    outcome: Outcome = future.result()
    place, fresh = folder / "points" / point.name, _fresh(folder, point)
    name = folder.name.partition("--")[0]
    if outcome.problem:
        if outcome.notebook:
            kept = folder / "failed" / f"{point.name}.ipynb"
            paths.write_atomically(kept, outcome.notebook)
            return f"{outcome.problem}\n  as far as it ran: {kept}"
        return outcome.problem
    for path, text in outcome.runs:
        paths.write_atomically(fresh / "runs" / path, text)
    paths.write_atomically(fresh / f"{name}.ipynb", outcome.notebook)
    paths.write_atomically(fresh / FILE, outcome.results)
    if not any((fresh / "runs").iterdir()):
        (fresh / "runs").rmdir()
    place.parent.mkdir(exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    os.rename(fresh, place)
    return None


def _fresh(folder: Path, point: Point) -> Path:
    """Where a point is made; runs that a stopped sweep has trained lie there, and are taken up."""
    return folder / "unfinished" / point.name


def _done(folder: Path, point: Point, source: str | None = None) -> Rerun | None:
    """What a point has found, if it was made with these parameters (and with this code)."""
    try:
        made = reruns.load(folder / "points" / point.name)
    except RerunError:
        return None
    same = made.parameters == rerun.as_json(dict(point.checked))
    return made if same and source in (None, made.source) else None


def _short(problem: str) -> str:
    """The last line of what went wrong, which names the error; "" for nothing."""
    lines = [line.strip() for line in problem.splitlines() if "as far as it ran" not in line]
    return lines[-1] if lines else ""


# The table


def write_table(
    file: Path, axes: Mapping[str, list], todo: list[Point], done: Mapping[str, Rerun | None]
) -> None:
    """A row for each point: its parameters, and each result with its spread over seeds."""
    names = list(dict.fromkeys(name for run in done.values() if run for name in run.results))
    taken = {"point", "failed", *axes}  # a result may be called as a parameter is
    called = [f"{name}_found" if name in taken else name for name in names]
    columns = [(name, f"{name}_spread", f"{name}_seeds") for name in called]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["point", *axes, "failed", *(title for titles in columns for title in titles)])
    for point in todo:
        run = done[point.name]
        found = [run.results.get(name) if run else None for name in names]
        cells = [(f.mean, f.spread, len(f.there)) if f else (None, None, None) for f in found]
        values = [point.values[name] for name in axes]
        table.writerow([point.name, *values, int(not run), *(c for cell in cells for c in cell)])
    paths.write_atomically(file, text.getvalue())


def _page(
    book: Book, document: str, folder: Path, axes: Mapping, todo: list[Point], failed: Mapping
) -> tuple[Path, Path]:
    content = {
        "chapter": Path(document).name,
        "axes": axes,
        "points": [
            {"name": p.name, "values": p.values, "problem": _short(failed.get(p.name, ""))}
            for p in todo
        ],
    }
    paths.write_atomically(folder / "sweep.json", json.dumps(content, indent=1))
    inside = folder.relative_to(book.root).as_posix()
    title = f"# {content['chapter']}: a sweep\n\nOne chapter at every point of a grid."
    cells = [
        sheet.text("title", title),
        sheet.code("load", CELLS.format(folder=inside)),
        sheet.text("table-title", "## What came out\n\nMean ± standard deviation over seeds."),
        sheet.code("table", "report(sweep.table)"),
    ]
    if any(len(values) > 1 for values in axes.values()):
        caption = "The results along the swept parameter. Bars are standard deviations over seeds."
        alt = f"Results of {content['chapter']} at the points of the grid: {', '.join(axes)}."
        drawn = sheet.code("along", "figures.along(*sweep.along)", caption, alt)
        cells += [sheet.text("figure-title", "## Along the swept parameter"), drawn]
    return sheet.make(book, folder, "sweep", cells)
