"""Digests that say whether a chapter, or the site, was made from what lies there now.

A chapter depends on its notebook, on the modules of bnkit it imports (and those that these import),
on the lock, on the recorded runs if it reads any, on its own claims in the ledger, on the other
files in ``data``, and on which data sets are at hand.
"""

import ast
import hashlib
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import accumulate
from pathlib import Path

import yaml

from bnkit import paths
from bnkit.book.layout import Book
from bnkit.datasets import runtime
from bnkit.page import committed
from bnkit.page.notebook import cells_of, code_of

PLATFORM = f"{sys.platform} {platform.machine()} Python {platform.python_version()}"
# what the site, and no number on it, depends on
ENVIRONMENT = ("BNKIT_REPOSITORY_URL", "BNKIT_BASE_URL")
ALWAYS = ("book/execute.py", "book/worker.py")  # how a chapter is executed may change its outputs


def execution_key(book: Book, document: str) -> str:
    """The digest of all that the outputs of one chapter depend on."""
    notebook = book.file(document)
    modules = modules_used(code_of(cells_of(notebook)), book.package)
    names = {path.relative_to(book.package).as_posix() for path in modules}
    always = {book.package / name for name in ALWAYS}
    files = {notebook, book.lock} | modules | always | set(_package_data(book.package))
    data, elsewhere = book.root / "data", ("cache", "runs", "claims.yml")
    files |= {path for path in _below(data) if path.relative_to(data).parts[0] not in elsewhere}
    words = [PLATFORM]
    if book.draft and committed.differs(book.root, f"{document}.ipynb"):
        words += ["draft"]  # its card says what was edited, and no longer once it is committed
    if "datasets/arrays.py" in names:
        words += _data_sets()
    if "claims/ledger.py" in names:
        words += _claims(data / "claims.yml", Path(document).name)
    if "runs/records.py" in names:
        files |= set(_below(paths.runs()))
    return _digest(book, files, *words)


def source_key(book: Book, document: str) -> str:
    """The digest of a chapter's notebook and of the code that it runs, the same on any machine."""
    notebook = book.file(document)
    modules = modules_used(code_of(cells_of(notebook)), book.package)
    return _digest(book, {notebook, *modules})


def site_key(book: Book, executed: Iterable[str]) -> str:
    """The digest of all that the site depends on; `executed` are those of executed chapters."""
    files = {book.root / "_config.yml", book.root / "_toc.yml", book.lock, *_below(book.package)}
    files.update(path for path in _below(book.root / "chapters") if path.suffix != ".ipynb")
    # whether cells run in the page; their files are verified when the site is built
    words = [runtime.VERSION if runtime.at_hand() else "no runtime"]
    addresses = (f"{name}={os.environ.get(name, '')}" for name in ENVIRONMENT)
    words += ["draft"] if book.draft else []
    return _digest(book, files, PLATFORM, *words, *executed, *addresses)


def modules_used(sources: Iterable[str], package: Path) -> set[Path]:
    """The files of `package`, bnkit, that Python `sources` import, directly or through each other.

    A source that cannot be read as Python counts as importing all of them.
    """
    files, todo, done = set(), set(), set()
    try:
        todo.update(*map(_imports, sources))
    except SyntaxError:
        return set(package.rglob("*.py"))
    while todo:
        done.add(name := todo.pop())
        for path in set(_files_of(name, package)) - files:
            files.add(path)
            with suppress(SyntaxError):  # the chapter that runs into it says where
                todo |= _imports(path.read_text(encoding="utf-8")) - done
    return files


@cache
def _imports(source: str) -> frozenset[str]:
    """What a source imports from bnkit, by names inside it, ``plots.mnist``; "" is bnkit itself."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return frozenset(name.partition(".")[2] for name in names if name.split(".")[0] == "bnkit")


def _files_of(name: str, package: Path) -> Iterator[Path]:
    """The file of a module or package, if `name` is one, and the packages around it."""
    around = list(accumulate(name.split(".") if name else [], Path.joinpath, initial=package))
    candidates = [*(folder / "__init__.py" for folder in around), around[-1].with_suffix(".py")]
    return (path for path in candidates if path.is_file())


def _package_data(package: Path) -> list[Path]:
    files = ((path, path.relative_to(package).parts) for path in _below(package))
    return [path for path, parts in files if path.suffix != ".py" and "book" not in parts]


def _below(folder: Path) -> list[Path]:
    """The files below a folder that somebody wrote: no hidden ones, no compiled ones."""
    written = lambda part: not part.startswith((".", "__pycache__"))  # noqa: E731
    files = ((path, path.relative_to(folder).parts) for path in folder.rglob("*") if path.is_file())
    return [path for path, parts in files if all(map(written, parts))]


def _claims(ledger: Path, chapter: str) -> list[str]:
    """The chapter's entries in the ledger; all, for a page that has none: it may show the ledger."""
    entries = _entries(ledger.read_text(encoding="utf-8")) if ledger.is_file() else []
    mappings = (entry for entry in entries if isinstance(entry, dict))
    own = [entry for entry in mappings if entry.get("chapter") == chapter]
    return [repr(entry) for entry in own or entries]


@cache
def _entries(ledger: str) -> list:
    return yaml.load(ledger, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or []


def _data_sets() -> list[str]:
    """Which data set files are at hand, by name and size; loading them checks what is in them."""
    files = (
        file
        for place in paths.data_folders("")
        for file in place.glob("*/*")
        if file.parent.name not in ("checkpoints", runtime.NAME) and file.is_file()
        if not file.name.startswith(".") and file.suffix not in (".lock", ".part")
    )
    return sorted({f"{file.parent.name}/{file.name} {file.stat().st_size}" for file in files})


def _digest(book: Book, files: Iterable[Path], *words: str) -> str:
    """SHA-256 over names and contents of files, and words; the same wherever the checkout lies."""
    digest = hashlib.sha256()
    named = {_name(book, path): path for path in files}
    for name in sorted(named):
        content = named[name].read_bytes() if named[name].is_file() else b"missing"
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    for word in words:
        digest.update(f"{word}\0".encode())
    return digest.hexdigest()


def _name(book: Book, path: Path) -> str:
    for folder in (book.package.parent, book.root):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return path.as_posix()  # recorded runs somewhere else: $BNKIT_RUNS
