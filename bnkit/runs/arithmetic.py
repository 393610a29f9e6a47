"""Which arithmetic made a run: a digest of exactly the code that its numbers depend on.

From the class that trains a run the definitions are followed that it uses, in whatever module they
stand: functions and classes by name, whole classes with their methods. What cannot change a number
is left out: comments, docstrings, annotations, messages of errors, what curves mean in words, where
files lie, and the path of the layer that this device does not take. So plots, text and commands may
change as they like. Where the digest is the record's, the code is; else numbers may differ.
"""

import ast
import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# a record has the digest of its data
NO_NUMBERS = {"paths", "datasets.files", "datasets.published", "page.progress"}
OTHER_PATHS = {"cpu": {"layers.triton"}, "cuda": {"layers.aten"}}  # the layer on another device
IN_WORDS = {"MEANING", "LOSS"}
BARE = ""  # the place of statements that bind no name: they run when the module is imported

Name = tuple[str, str]  # a module of bnkit, "runs.training", and what is defined there, "fit"


def made(by: str, *things: type, device: str = "cpu") -> dict[str, str]:
    """What a record says: who trained it ("loop", say), and the digest of `things` and all they use.

    `things` are classes and functions of the package.
    """
    return {"made_by": by, "digest": digest(*things, device=device)}


def digest(*things: type, device: str = "cpu") -> str:
    """12 hexadecimal digits of the SHA-256 over ``definitions``; equal under every Python."""
    names = frozenset((_inside(thing.__module__), thing.__qualname__) for thing in things)
    return _digest(names, device)


def definitions(*things: type, device: str = "cpu") -> list[str]:
    """The names of all definitions that `things` use, themselves included: "runs.training.fit"."""
    names = frozenset((_inside(thing.__module__), thing.__qualname__) for thing in things)
    return [".".join(name) for name in sorted(_reached(names, device))]


@cache
def _digest(names: frozenset[Name], device: str) -> str:
    total = hashlib.sha256()
    reached = _reached(names, device)
    for name in sorted(reached):
        total.update(repr((name, *map(_spelt, reached[name]))).encode())
    return total.hexdigest()[:12]


def _reached(names: frozenset[Name], device: str) -> dict[Name, list[ast.stmt]]:
    """Every definition that `names` lead to, and the statements that make it."""
    todo, reached = deque(names), {}
    left_out = NO_NUMBERS | OTHER_PATHS[device]
    while todo:
        module, name = place = todo.popleft()
        if place in reached or module in left_out or name in IN_WORDS:
            continue
        top = _top(module)
        reached[place] = top.statements[name]
        todo += [(module, BARE)] if BARE in top.statements else []
        for statement in reached[place]:
            todo += chain.from_iterable(_resolve(module, path) for path in _paths(statement))
    return reached


def _resolve(module: str, path: tuple[str, ...]) -> Iterator[Name]:
    """The definitions that a dotted name means inside a module, if they are the package's."""
    top, first = _top(module), path[0]
    if first in top.statements:
        yield module, first
    elif first in top.imports:
        yield from _imported(top.imports[first], path[1:])


def _imported(target: str, rest: tuple[str, ...]) -> Iterator[Name]:
    """The definitions that `rest` means of `target`, a module, or something inside of one."""
    while rest and _file(f"{target}.{rest[0]}"):
        target, rest = f"{target}.{rest[0]}", rest[1:]
    if not _file(target):
        target, _, name = target.rpartition(".")
        rest = (name, *rest)
    if rest:
        yield from _resolve(target, rest)
    else:  # the module itself is handed on: whatever is in it may be used
        yield from ((target, name) for name in _top(target).statements)


class _Top:
    """The top of one module: what each name is bound to, here or by an import."""

    def __init__(self, source: str):
        self.imports: dict[str, str] = {}
        self.statements: dict[str, list[ast.stmt]] = {}
        tree = _Bare().visit(ast.parse(source))
        for node in ast.walk(tree):
            self.imports |= _imports(node)
        for statement in tree.body:
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                for name in _bound(statement) or [BARE]:
                    self.statements.setdefault(name, []).append(statement)


_parsed = cache(_Top)


@cache
def _top(module: str) -> _Top:
    return _parsed(_file(module).read_text(encoding="utf-8"))


class _Bare(ast.NodeTransformer):
    """Takes away what changes no number."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        return ast.copy_location(ast.Raise(), node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.copy_location(ast.arg(node.arg), node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        nothing = ast.copy_location(ast.Constant(None), node)
        bare = ast.AnnAssign(node.target, nothing, node.value, node.simple)
        return self.generic_visit(ast.copy_location(bare, node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        return self.generic_visit(node)


def _bound(statement: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module binds."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    nodes = ast.walk(statement)
    return sorted({n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)})


def _imports(node: ast.AST) -> Mapping[str, str]:
    """Name here -> its place in bnkit, for what an import statement takes from there."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bnkit":
        inside = _inside(node.module)
        return {a.asname or a.name: f"{inside}.{a.name}".lstrip(".") for a in node.names}
    if isinstance(node, ast.Import):
        ours = (alias for alias in node.names if alias.asname and alias.name.startswith("bnkit."))
        return {alias.asname: _inside(alias.name) for alias in ours}
    return {}


def _paths(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Every name in `node` with the attributes behind it: ``records.round_to`` as a pair."""
    rest: list[str] = []
    inner = node
    while isinstance(inner, ast.Attribute):
        rest.insert(0, inner.attr)
        inner = inner.value
    if isinstance(inner, ast.Name):
        yield inner.id, *rest
    else:
        for child in ast.iter_child_nodes(inner):
            yield from _paths(child)


def _spelt(node: object) -> object:
    """A node as nested tuples, without what is empty: so all versions of Python spell it alike."""
    if isinstance(node, list):
        return [_spelt(one) for one in node]
    if not isinstance(node, ast.AST):
        return node
    fields = ((name, value) for name, value in ast.iter_fields(node) if name != "kind")
    full = ((name, value) for name, value in fields if value is not None and value != [])
    return type(node).__name__, *((name, _spelt(value)) for name, value in full)


def _inside(module: str) -> str:
    return module.partition("bnkit")[2].lstrip(".")


@cache
def _file(module: str) -> Path | None:
    """The file of a module of bnkit, or of a folder of them; None where there is none."""
    place = PACKAGE.joinpath(*module.split("."))
    files = (place.with_suffix(".py") if module else place, place / "__init__.py")
    return next((path for path in files if path.is_file()), None)
