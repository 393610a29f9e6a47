"""``python -m bnkit.book``: the doors of the press, which ``make`` opens."""

import argparse
import signal
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from bnkit import paths
from bnkit.book.layout import Book, PressError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bnkit.book", description="The press: from chapters to the book."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("build", help="execute what changed, check it, build the site")
    command.set_defaults(do=_build)

    command = commands.add_parser(
        "check", help="the committed notebooks, the reading order, the lock"
    )
    command.set_defaults(do=_check)

    command = commands.add_parser(
        "rerun", help="one chapter again with other parameters, as notebook and page"
    )
    command.add_argument("chapter", help="its name, as 08-mnist")
    command.add_argument(
        "parameters", nargs="?", default="", help='as one text: "steps=5000 seeds=3"'
    )
    command.set_defaults(do=_rerun)

    command = commands.add_parser(
        "measure", help="how much prose leads how much code, chapter by chapter"
    )
    command.set_defaults(do=_measure)

    command = commands.add_parser(
        "strip", help="remove outputs and traces of runs from notebooks, in place"
    )
    command.add_argument("notebooks", nargs="*", type=Path, help="all chapters by default")
    command.add_argument(
        "--verify",
        action="store_true",
        help="change nothing; fail where there is something to remove",
    )
    command.set_defaults(do=_strip)

    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # so that kernels are stopped, too
    try:
        return options.do(Book(paths.root()), options) or 0
    except PressError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"\n{error.filename or 'the build folder'} cannot be used: {error.strerror or error}",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _build(book: Book, _: argparse.Namespace) -> int:
    from bnkit.book.build import build

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
    from bnkit.book import evidence, pins, structure

    findings = [
        *structure.check(book),
        *evidence.committed(book, evidence.ledger(book)),
        *pins.check(book.lock),
    ]
    for finding in findings:
        print(finding, file=sys.stderr)
    return _verify_stripped(sorted((book.root / "chapters").glob("*.ipynb")), verify=True) or bool(
        findings
    )


def _rerun(book: Book, options: argparse.Namespace) -> None:
    from bnkit.book.rerun import rerun

    notebook, page = rerun(book, options.chapter, options.parameters)
    print(f"notebook: {notebook}\npage:     {page}")


def _measure(book: Book, _: argparse.Namespace) -> None:
    from bnkit.book.measure import measure

    for document in book.notebooks():
        print(f"{document.removeprefix('chapters/'):24} {measure(book.file(document))}")


def _strip(book: Book, options: argparse.Namespace) -> int:
    notebooks = options.notebooks or sorted((book.root / "chapters").glob("*.ipynb"))
    return _verify_stripped(notebooks, verify=options.verify)


def _verify_stripped(notebooks: list[Path], verify: bool) -> int:
    from bnkit.book.strip import strip

    done = strip(notebooks, verify)
    print(done.stdout + done.stderr, end="", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
