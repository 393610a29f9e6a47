"""Two kinds of code: *teaching* cells are what a reader would type, *evidence* is all the rest.

Evidence runs, stops the build where it fails, and is folded, on the page and in JupyterLab alike.
Teaching cells are short, lean on the library and on what they show alone, and run without the
evidence: in their order they are a notebook of their own, which each page offers for download.
"""

import ast
import symtable
from collections.abc import Iterable, Iterator

from bnkit.page.notebook import (
    EVIDENCE,
    FOLDED_OUTPUT,
    SOLUTION,
    TEACHING,
    cells_of,
    headings_of,
    kind_of,
    source_of,
    tags_of,
)

LINES, COLUMNS = 12, 79
MODULES = ("numpy", "torch", "matplotlib", "bnkit.reference", "bnkit.layers", "bnkit.whitening")
PERHAPS = (ast.If, ast.For, ast.While, ast.Try, ast.Match)  # statements that may bind nothing
BUILTINS = frozenset(dir(__import__("builtins")))


# Rules for ``structure``. Each yields (cell id, problem).


def kinds(notebook: dict) -> Iterator[tuple[str, str]]:
    """Each cell of code says what it is for, and JupyterLab folds what the page folds."""
    for cell in _code(notebook):
        kind, folds = kind_of(cell), cell["metadata"].get("jupyter", {})
        if kind is None:
            yield cell["id"], f"needs one tag of the two, {TEACHING!r} or {EVIDENCE!r}"
            continue
        wanted = {"source_hidden"} if kind == EVIDENCE else set()
        if kind == EVIDENCE and {SOLUTION, FOLDED_OUTPUT} & set(tags_of(cell)):
            wanted.add("outputs_hidden")
        if {key for key, value in folds.items() if value} != wanted:
            metadata = ", ".join(f'"{key}": true' for key in sorted(wanted))
            yield cell["id"], f'is {kind}; its metadata must have "jupyter": {{{metadata}}}'


def teaching(notebook: dict) -> Iterator[tuple[str, str]]:
    """Teaching cells are short and narrow, and stand on the library and on each other alone."""
    bound: dict[str, str] = {}  # by which cell a name was bound last: "", where that one teaches
    for cell in _code(notebook):
        try:
            reads, binds = names(source_of(cell))
        except SyntaxError:
            continue  # another rule says so
        teaches = kind_of(cell) == TEACHING
        if teaches:
            yield from ((cell["id"], problem) for problem in _shape(source_of(cell)))
            yield from ((cell["id"], problem) for problem in _foreign(reads, bound))
        bound.update(dict.fromkeys(binds, "" if teaches else cell["id"]))


def _shape(source: str) -> Iterator[str]:
    lines = source.splitlines()
    if len(lines) > LINES:
        yield f"teaches in {len(lines)} lines; at most {LINES}"
    if (widest := max(map(len, lines), default=0)) > COLUMNS:
        yield f"teaches in lines of {widest} columns; at most {COLUMNS}"
    for module in imports(source):
        if not any(f"{module}.".startswith(f"{allowed}.") for allowed in MODULES):
            yield f"teaches with {module}; what a reader would use is {', '.join(MODULES)}"


def _foreign(reads: Iterable[str], bound: dict[str, str]) -> Iterator[str]:
    for name in sorted(reads):
        if name not in bound and name not in BUILTINS:
            yield f"teaches with {name!r}, which no cell before it defines"
        elif owner := bound.get(name):
            yield f"teaches with {name!r}, which the evidence in {owner!r} defines"


# What a piece of code needs


def imports(source: str) -> Iterator[str]:
    """The modules that a source imports, by their dotted names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "bnkit":
            yield from (f"bnkit.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


def names(source: str) -> tuple[set[str], set[str]]:
    """The names that a source takes from cells before it, and those that it binds.

    A name that it reads and binds counts as its own: whether it is read first only a run can tell.
    """
    top = symtable.symtable(source, "cell", "exec")
    binds = {symbol.get_name() for symbol in top.get_symbols() if _is_bound(symbol)}
    return set(_read(top)) - binds, binds


def taken(source: str) -> set[str]:
    """The names that a source takes, or may take, from cells before it.

    Statements are read in their order; what a loop or a branch binds may still be another cell's.
    """
    found: set[str] = set()
    own: set[str] = set()
    for statement in ast.parse(source).body:
        part = ast.unparse(statement)
        found |= set(_read(symtable.symtable(part, "cell", "exec"))) - own
        if not isinstance(statement, PERHAPS):
            own |= names(part)[1]
    return found


def _is_bound(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def _read(table: symtable.SymbolTable) -> Iterator[str]:
    """The names of the cell that `table`, it or a function or comprehension in it, reads."""
    outermost = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (outermost or symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _read(child)


# The teaching cells of a chapter, by themselves


Heading = tuple[int, str]  # level and text


def just_the_code(notebook: dict) -> dict | None:
    """A notebook of the teaching cells under the headings they stand below; None without any."""
    cells, standing, told = [], [], []
    for cell in cells_of(notebook):
        if cell["cell_type"] == "markdown":
            standing = _open(standing, headings_of(cell))
        elif kind_of(cell) == TEACHING:
            new = [heading for heading in standing if heading not in told]
            cells += [_text(cell, new)] if new else []
            cells.append(_bare(cell))
            told = standing
    metadata = {key: notebook["metadata"][key] for key in ("kernelspec", "language_info")}
    return {**notebook, "metadata": metadata, "cells": cells} if cells else None


def _open(standing: list[Heading], headings: list[Heading]) -> list[Heading]:
    """The headings that stand open: a new one closes those of its level and below."""
    for depth, title in headings:
        standing = [above for above in standing if above[0] < depth] + [(depth, title)]
    return standing


def _text(cell: dict, headings: list[Heading]) -> dict:
    text = "\n\n".join(f"{'#' * depth} {title}" for depth, title in headings)
    name = f"{cell['id']}-heading"
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}


def _bare(cell: dict) -> dict:
    return {**cell, "metadata": {}, "outputs": [], "execution_count": None}


def _code(notebook: dict) -> list[dict]:
    return [cell for cell in cells_of(notebook) if cell["cell_type"] == "code"]
