"""Digests that say whether a chapter, or the site, was made from what lies there now. Cheap:
nothing heavy imported.

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
from functools import cache
from pathlib import Path

import yaml

from bnkit import paths
from bnkit.book.layout import Book
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
    files = {
        *modules,
        notebook,
        book.lock,
        *(book.package / name for name in ALWAYS),
        *_package_data(book.package),
    }
    data = book.root / "data"
    files.update(
        path
        for path in _below(data)
        if path.parts[len(data.parts)] not in ("cache", "runs", "claims.yml")
    )
    claims = (
        _claims(data / "claims.yml", Path(document).name) if "claims/ledger.py" in names else []
    )
    if "runs/records.py" in names:
        files.update(_below(paths.runs()))
    at_hand = _data_sets() if "datasets/arrays.py" in names else []
    return _digest(book, files, PLATFORM, *at_hand, *claims)


def site_key(book: Book, executed: Iterable[str]) -> str:
    """The digest of all that the site depends on; `executed` are the digests of the executed
    chapters."""
    files = {book.root / "_config.yml", book.root / "_toc.yml", book.lock, *_below(book.package)}
    files.update(path for path in _below(book.root / "chapters") if path.suffix != ".ipynb")
    return _digest(
        book,
        files,
        PLATFORM,
        *executed,
        *(f"{name}={os.environ.get(name, '')}" for name in ENVIRONMENT),
    )


def modules_used(sources: Iterable[str], package: Path) -> set[Path]:
    """The files of `package`, bnkit, that Python `sources` import, directly or through each other.

    A source that cannot be read as Python counts as importing all of them.
    """
    found, todo = set(), set()
    for source in sources:
        try:
            todo |= _imports(source)
        except SyntaxError:
            return set(package.rglob("*.py"))
    done = set()
    while todo:
        name = todo.pop()
        done.add(name)
        for path in _files_of(name, package):
            if path not in found:
                found.add(path)
                todo |= _imports(path.read_text(encoding="utf-8")) - done
    return found


@cache
def _imports(source: str) -> frozenset[str]:
    """What a source imports from bnkit, as dotted names inside it, ``plots.mnist``; "" is bnkit
    itself."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return frozenset(name.partition(".")[2] for name in names if name.split(".")[0] == "bnkit")


def _files_of(name: str, package: Path) -> Iterator[Path]:
    """The file of a module or package, if `name` is one, and the packages around it."""
    parts = name.split(".") if name else []
    candidates = [
        package.joinpath(*parts[:depth], "__init__.py") for depth in range(len(parts) + 1)
    ]
    if parts:
        candidates.append(package.joinpath(*parts).with_suffix(".py"))
    return (path for path in candidates if path.is_file())


def _package_data(package: Path) -> list[Path]:
    return [
        path
        for path in _below(package)
        if path.suffix != ".py" and "book" not in path.relative_to(package).parts
    ]


def _below(folder: Path) -> list[Path]:
    """The files below a folder that somebody wrote: no hidden ones, no compiled ones."""
    inside = (path for path in folder.rglob("*") if path.is_file())
    return [
        path
        for path in inside
        if not any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts)
    ]


def _claims(ledger: Path, chapter: str) -> list[str]:
    """The chapter's entries in the ledger; all of them for a page that answers for none, but shows
    the ledger."""
    entries = _entries(ledger.read_text(encoding="utf-8")) if ledger.is_file() else []
    own = [
        entry for entry in entries if isinstance(entry, dict) and entry.get("chapter") == chapter
    ]
    return [repr(entry) for entry in own or entries]


@cache
def _entries(ledger: str) -> list:
    return yaml.load(ledger, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or []


def _data_sets() -> list[str]:
    """Which data set files are at hand, by name and size; what is in them is checked wherever they
    are loaded."""
    return sorted(
        {
            f"{folder.name}/{file.name} {file.stat().st_size}"
            for place in paths.data_folders("")
            if place.is_dir()
            for folder in place.iterdir()
            if folder.is_dir() and folder.name != "checkpoints"
            for file in folder.iterdir()
            if file.is_file()
            and not file.name.startswith(".")
            and file.suffix not in (".lock", ".part")
        }
    )


def _digest(book: Book, files: Iterable[Path], *words: str) -> str:
    """SHA-256 over names and contents of files, and over words; the same wherever the checkout
    lies."""
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
