"""``python -m bnkit.book``: the doors of the press, which ``make`` opens."""

import argparse
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from filelock import FileLock, Timeout

from bnkit import engines, paths
from bnkit.book.layout import Book, PressError
from bnkit.page.notebook import NotebookError, cells_of


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    title = "The press: from chapters to the book."
    parser = argparse.ArgumentParser(prog="python -m bnkit.book", description=title)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(do: Callable, about: str) -> argparse.ArgumentParser:
        made = commands.add_parser(do.__name__.strip("_"), help=about)
        made.set_defaults(do=do)
        return made

    made = command(_build, "execute what changed, check it, build the site")
    uncommitted = "with chapters that are not as committed, too; every page says that it is a draft"
    made.add_argument("--draft", action="store_true", help=uncommitted)
    command(_check, "the committed notebooks, the reading order, the lock")
    rerun = command(_rerun, "one chapter again with other parameters, as notebook and page")
    rerun.add_argument("chapter", help="its name, as 08-mnist")
    as_text = 'as one text: "steps=5000 seeds=3"'
    rerun.add_argument("parameters", nargs="?", default="", help=as_text)
    compare = command(_compare, "re-runs of one chapter side by side, as a page")
    which = "the folders of re-runs, or `book` for the chapter as the book shows it"
    compare.add_argument("runs", nargs="*", help=which)
    sweep = command(_sweep, "one chapter at every point of a grid, as a table and a page")
    sweep.add_argument("chapter", help="its name, as 08-mnist")
    as_grid = 'as one text: "learning_rate=0.1,0.5,2 seeds=3"'
    sweep.add_argument("parameters", nargs="?", default="", help=as_grid)
    workers = "run on the workers of the Dask scheduler at this address, tcp://HOST:8786"
    sweep.add_argument("--scheduler", metavar="ADDRESS", default="", help=workers)
    serve = command(_serve, "show the built site on this machine")
    serve.add_argument("--port", default="8000", help="1 to 65535")
    command(
        _measure,
        "what chapters weigh, and what of the built pages is in sight, cut, or hard to use",
    )
    command(_claims, "write data/claims.yml into the cells of the page of all claims")
    command(_pdf, "the built site as one file, _build/book.pdf, printed by a browser")
    strip = command(_strip, "remove outputs and traces of runs from notebooks, in place")
    strip.add_argument("notebooks", nargs="*", type=Path, help="all chapters by default")
    only_look = "change nothing; fail where there is something to remove"
    strip.add_argument("--verify", action="store_true", help=only_look)

    for stream in (sys.stdout, sys.stderr):  # some terminals have no letters beyond ASCII
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # so that kernels are stopped, too
    try:
        return options.do(Book(paths.root()), options) or 0
    except (PressError, NotebookError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        place, reason = error.filename or "the build folder", error.strerror or error
        print(f"\n{place} cannot be used: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _build(book: Book, options: argparse.Namespace) -> int:
    from bnkit.book.build import build

    book = replace(book, draft=options.draft)
    book.build.mkdir(exist_ok=True)
    lock = FileLock(book.build / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("another build is at work here; waiting for it", flush=True)
        lock.acquire()
    with lock:
        try:
            build(book, say=lambda text: print(text, flush=True))
        except (PressError, OSError):
            if (book.html / "index.html").is_file():
                print(f"not published; {book.html} is the last good site", file=sys.stderr)
            raise
    return 0


def _check(book: Book, _: argparse.Namespace) -> int:
    from bnkit.book import evidence, structure

    claims = evidence.committed(book, evidence.ledger(book))
    findings = [*structure.check(book), *claims, *structure.check_lock(book.lock)]
    for finding in findings:
        print(finding, file=sys.stderr)
    return _strip(book, argparse.Namespace(notebooks=[], verify=True)) or bool(findings)


def _rerun(book: Book, options: argparse.Namespace) -> None:
    from bnkit.book.rerun import rerun
    from bnkit.page.reruns import FILE

    notebook, page = rerun(book, options.chapter, options.parameters)
    results = notebook.with_name(FILE)
    print(f"notebook: {notebook}\npage:     {page}\nresults:  {results}")


def _compare(book: Book, options: argparse.Namespace) -> None:
    from bnkit.book.compare import compare

    notebook, page = compare(book, options.runs)
    print(f"notebook: {notebook}\npage:     {page}")


def _sweep(book: Book, options: argparse.Namespace) -> int:
    from bnkit.book.sweep import sweep

    engine = engines.cluster(options.scheduler) if options.scheduler else nullcontext()
    try:
        with engine as executor:
            done = sweep(book, options.chapter, options.parameters, executor)
    except engines.EngineError as error:
        raise PressError(str(error)) from None
    for name, problem in done.failed.items():
        print(f"\n{name} failed in {problem}", file=sys.stderr)
    if done.page:
        print(f"table:    {done.folder / 'table.csv'}\npage:     {done.page}")
    print(f"points:   {done.folder / 'points'}")
    return int(bool(done.failed))


def _serve(book: Book, options: argparse.Namespace) -> None:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    port = options.port
    if not (port.isascii() and port.isdecimal() and 1 <= int(port[:10]) <= 65535):
        raise PressError(f"the port is {port!r}; it must be a number from 1 to 65535")
    if not (book.html / "index.html").is_file():
        raise PressError("there is no book to show yet; build it: make book")
    handler = partial(SimpleHTTPRequestHandler, directory=book.html)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", int(port)), handler)
    except OSError as error:
        raise PressError(f"port {port} cannot be used: {error.strerror}") from None
    with server:
        print(f"http://127.0.0.1:{port}/ shows the book; stop it with Ctrl-C", flush=True)
        server.serve_forever()


def _measure(book: Book, _: argparse.Namespace) -> int:
    from bnkit.book.measure import measure, words_before_the_formula

    unhidden = 0
    for document in book.notebooks():
        found = measure(book.file(document))
        print(f"{document.removeprefix('chapters/'):24} {found}")
        unhidden += found.unhidden
    before = words_before_the_formula(map(book.file, book.written()))
    print(f"words before batch normalization is defined: {before:,}")
    bad = int(bool(unhidden or before))
    if not (book.html / "index.html").is_file():
        print("there is no site to look at yet: make book")
        return bad
    return max(_look(book), bad)


def _look(book: Book) -> int:
    """The table of the built site; 1 where a page is not as it should be."""
    from bnkit.book import browser
    from bnkit.book.measure import Weight, bytes_under, in_sight, weigh
    from bnkit.book.run_here import FOLDER

    documents = book.documents()
    pages = [book.html / f"{document}.html" for document in documents]
    seen = browser.look_at(pages) if browser.executable() else ()
    titles = ("teaching", "other", "twice", "cut", "small", "critical", "serious", "outside")
    titles += tuple(f"{part} kB" for part in Weight._fields)
    print(f"\n{'in sight on a page':28}" + "".join(f"{title:>12}" for title in titles))
    bad = 0
    for document, page, found in zip_longest(documents, pages, seen):
        counted = in_sight(page)
        line = [*counted, *(found or ["-"] * len(browser.Seen._fields))]
        line += [round(size / 1000) for size in weigh(page)]
        name = document.removeprefix("chapters/")
        print(f"{name:28}" + "".join(f"{value:>12}" for value in line), flush=True)
        bad += bool(counted.other or counted.twice or (found and not found.good()))
    folders = {
        "whole site": "",
        "Run here and its Python": FOLDER,
        "explorables": "_static/explorables",
    }
    sizes = {name: bytes_under(book.html / folder) for name, folder in folders.items()}
    print("   ".join(f"{name} {size / 1000:,.0f} kB" for name, size in sizes.items()))
    if not browser.executable():
        print("no browser on this machine: what only a browser sees was not measured")
    return min(bad, 1)


def _pdf(book: Book, _: argparse.Namespace) -> None:
    from bnkit.book import pdf

    pdf.write(book, say=lambda text: print(text, flush=True))


def _claims(book: Book, _: argparse.Namespace) -> None:
    from bnkit.book import claim_cells, evidence

    if written := claim_cells.write(book, evidence.ledger(book)):
        print(f"written anew: {written}")


def _strip(book: Book, options: argparse.Namespace) -> int:
    from bnkit.book.structure import strip

    notebooks = options.notebooks or sorted((book.root / "chapters").glob("*.ipynb"))
    for path in notebooks:
        if path.is_file() and path.suffix == ".ipynb":
            cells_of(path)  # one that is none is named here, and half stripped nowhere
    done = strip(notebooks, options.verify)
    print(done.stdout + done.stderr, end="", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
