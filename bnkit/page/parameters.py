"""Checks a chapter's parameter cell: unknown names, wrong types, values out of range.

papermill lets a misspelled name pass and turns ``-p quick false`` into the text ``'false'``, which
counts as true. So the second code cell of a chapter reads::

    p = parameters.check(globals(), chapter="08-mnist", steps=parameters.integer(1, 200_000), ...)

It refuses all that is wrong in one message that says what is allowed, else shows a parameter card.
"""

import ast
import io
import math
import shlex
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from keyword import iskeyword
from pathlib import Path
from typing import NamedTuple

from bnkit.page import assertions, committed
from bnkit.page.notebook import cells_of, parameters_in, source_of

INJECTED = "# Parameters"  # first line of the cell that papermill puts behind the parameter cell


class ParameterError(ValueError):
    """A chapter cannot run with its parameters; the message says why, and what is allowed."""


class Declared(NamedTuple):
    """One line of a parameter cell, ``steps: int = 50_000  # optimisation steps``."""

    name: str
    type: str
    default: object
    meaning: str


class Parameters(Mapping):
    """The checked parameters of a run: ``p.steps``, ``dict(p)``; a cell shows them as a card."""

    def __init__(self, values: dict, card: str, changed: tuple[str, ...] = ()):
        self.__dict__.update(values, _values=dict(values), _card=card, _changed=changed)

    def __setattr__(self, name: str, value: object):
        where = f"in the parameter cell, or by papermill with -p {name} ..., and not here"
        raise AttributeError(f"{name} is set {where}")

    def __getitem__(self, name: str) -> object:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        values = (f"{name}={value!r}" for name, value in self._values.items())
        return f"Parameters({', '.join(values)})"

    def _repr_markdown_(self) -> str:
        return self._card

    def changed(self) -> tuple[str, ...]:
        """The names of those that were given another value than the parameter cell has."""
        return self._changed


# Rules


@dataclass(frozen=True)
class Rule:
    """What one parameter may be: its type in the parameter cell, the values allowed, in words."""

    type: str
    allowed: str
    read: Callable[[object], object]  # the value, or ValueError that says what is wrong with it


def integer(low: int, high: int) -> Rule:
    """A whole number from `low` to `high`, both included."""
    allowed = f"{low:,} to {high:,}"

    def read(value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            raise ValueError(f"{value!r} is a decimal number; write {int(value)}")
        if type(value) is not int:
            raise ValueError(f"{value!r} is {_kind(value)}, not a whole number")
        if not low <= value <= high:
            raise ValueError(f"{value} is out of range, which is {allowed}")
        return value

    return Rule("int", allowed, read)


def number(low: float, high: float, low_open: bool = False) -> Rule:
    """A finite number from `low`, left out if `low_open`, to `high`; it is read as a float."""
    allowed = f"above {low:g}, up to {high:g}" if low_open else f"{low:g} to {high:g}"

    def read(value: object) -> float:
        if type(value) not in (int, float):
            raise ValueError(f"{value!r} is {_kind(value)}, not a number")
        if not math.isfinite(value):
            raise ValueError(f"{value!r} is not finite")
        if not low <= value <= high or (low_open and value == low):
            raise ValueError(f"{value} is out of range, which is {allowed}")
        return float(value)

    return Rule("float", allowed, read)


def choice(*allowed: object) -> Rule:
    """One of `allowed`, which are all of one type."""
    words = ", ".join(map(str, allowed))

    def read(value: object) -> object:
        if not any(type(value) is type(option) and value == option for option in allowed):
            raise ValueError(f"{value!r} is none of {words}{_suggestion(value, map(str, allowed))}")
        return value

    return Rule(type(allowed[0]).__name__, words, read)


def flag() -> Rule:
    """True or False."""

    def read(value: object) -> bool:
        if type(value) is not bool:
            remedy = 'write -p NAME True or -p NAME False (or -y "NAME: true")'
            raise ValueError(f"{value!r} is {_kind(value)}; {remedy}")
        return value

    return Rule("bool", "True, False", read)


# The check


def check(namespace: dict, /, *, chapter: str | None = None, **rules: Rule) -> Parameters:
    """The parameters in `namespace`, a chapter's ``globals()``, checked against a rule for each.

    Names, defaults and meanings are read from the source of the parameter cell, what was passed
    from the cell that papermill puts behind it; without a notebook (no ``In``) the values alone are
    checked. `chapter`, for example "08-mnist", goes into the commands on the card.

    The notebook's assertions say from then on what they found (``bnkit.page.assertions``).

    Raises ParameterError, once, with every problem.
    """
    assertions.tell(namespace["get_ipython"]() if "get_ipython" in namespace else None)
    declared, given = _cells(namespace.get("In") or [], rules)
    problems = [f"{name}: unknown{_suggestion(name, rules)}" for name in given if name not in rules]
    lawless = (name for name in declared if name not in rules)
    problems += [f"{name}: stands in the parameter cell but has no rule" for name in lawless]
    values = {}
    for name, rule in rules.items():
        if name not in (declared or namespace) or name not in namespace:
            problems.append(f"{name}: has a rule but does not stand in the parameter cell")
            continue
        if name in declared and (kind := declared[name].type) != rule.type:
            problems.append(f"{name}: declared as {kind}, but its rule wants {rule.type}")
        try:
            values[name] = rule.read(namespace[name])
        except ValueError as error:
            problems.append(f"{name}: {error}".replace("NAME", name))
    told = {name: _told(declared.get(name), rule) for name, rule in rules.items()}
    if problems:
        raise ParameterError(_refusal(problems, told, chapter))
    # the cell may have been edited: what is default, only what is committed can tell
    defaults = {name: line.default for name, line in declared.items()} | _committed(chapter)
    changed = tuple(name for name in values if values[name] != defaults.get(name, values[name]))
    for name in set(told) & set(defaults):
        told[name] = told[name]._replace(default=str(defaults[name]))
    return Parameters(values, _card(values, changed, told, chapter), changed)


def dry_run(notebook: Path, given: dict) -> Parameters:
    """Check `given` as the chapter at path `notebook` will, without starting a kernel.

    Runs the chapter's parameter cell, `given`, and the cell that checks, in a namespace of their
    own. Raises ParameterError as ``check``, and where a chapter takes or checks no parameters.
    """
    notebook = Path(notebook)
    code = (cell for cell in cells_of(notebook) if cell["cell_type"] == "code")
    cells = [(cell["metadata"].get("tags", []), source_of(cell)) for cell in code]
    declaring = next((source for tags, source in cells if "parameters" in tags), None)
    checking = next((source for _, source in cells if "parameters.check(" in source), None)
    if declaring is None:
        if given:
            raise ParameterError(f"{notebook.stem} takes no parameters; given: {', '.join(given)}")
        return Parameters({}, "This chapter takes no parameters.")
    if checking is None:
        problem = "never checks its parameters: no cell of it calls parameters.check"
        raise ParameterError(f"{notebook.stem} {problem}")
    if no_names := [name for name in given if not name.isidentifier() or iskeyword(name)]:
        raise ParameterError(f"these cannot name a parameter: {', '.join(map(repr, no_names))}")
    # as papermill would write them, but the values come as they are
    names = [f"{name} = ..." for name in given]
    namespace = {"__name__": "__main__"}
    exec(declaring, namespace)
    namespace |= given | {"In": ["", declaring, "\n".join([INJECTED, *names]), checking]}
    exec(checking, namespace)
    return next(value for value in namespace.values() if isinstance(value, Parameters))


def read_cell(source: str) -> list[Declared]:
    """The parameters that the source of a parameter cell declares, in its order.

    Raises ParameterError where a line is not ``name: type = literal  # meaning``: a value computed
    in this cell would keep its old input when papermill sets another.
    """
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise ParameterError(f"the parameter cell is not Python: {error}") from error
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    declared = []
    for node in body:
        try:
            name, default = _target(node), ast.literal_eval(node.value)
        except (ValueError, AttributeError) as error:
            raise ParameterError(
                f"line {node.lineno} of the parameter cell, {ast.unparse(node)!r}: only lines like "
                "'name: type = literal  # meaning' belong there; derive others in a later cell"
            ) from error
        annotated = isinstance(node, ast.AnnAssign)
        kind = ast.unparse(node.annotation) if annotated else type(default).__name__
        declared.append(Declared(name, kind, default, comments.get(node.end_lineno, "")))
    return declared


# Reading cells


def _cells(sources: list[str], rules: Mapping) -> tuple[dict[str, Declared], list[str]]:
    """What the parameter cell declares, and the names that papermill injected after it.

    Of cells executed again in JupyterLab the latest counts, and only an injected cell that ran
    after it. The last source is the cell that is running now.
    """
    declared, given = {}, []
    for source in sources[:-1]:
        try:
            body = ast.parse(source).body
        except SyntaxError:
            continue  # it failed when it ran, too
        annotated = (node.target for node in body if isinstance(node, ast.AnnAssign))
        if source.lstrip().startswith(INJECTED):
            given = [_target(node) for node in body]
        elif any(ast.unparse(target) in rules for target in annotated):
            declared, given = {line.name: line for line in read_cell(source)}, []
    return declared, given


def _committed(chapter: str | None) -> dict[str, object]:
    """The defaults of the chapter as it is committed; none where that is not known."""
    notebook = committed.chapter(chapter) if chapter else None
    try:
        declared = read_cell(parameters_in(cells_of(notebook))) if notebook else []
    except (ParameterError, KeyError, TypeError):
        return {}  # an older commit had no such cell
    return {line.name: line.default for line in declared}


def _target(node: ast.stmt) -> str:
    """The one name that a statement assigns to; ValueError if it does something else."""
    match node:
        case ast.AnnAssign(target=ast.Name(name)) | ast.Assign(targets=[ast.Name(name)]):
            return name
    raise ValueError("not an assignment to one name")


# Saying it


def _kind(value: object) -> str:
    kinds = {bool: "a truth value", int: "a whole number", float: "a decimal number", str: "text"}
    return "nothing" if value is None else kinds.get(type(value), f"a {type(value).__name__}")


def _suggestion(name: object, known: Iterable[str]) -> str:
    close = get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


class Told(NamedTuple):
    """A parameter in words."""

    type: str
    default: str
    allowed: str
    meaning: str


def _told(line: Declared | None, rule: Rule) -> Told:
    default, meaning = (str(line.default), line.meaning) if line else ("", "")
    return Told(rule.type, default, rule.allowed, meaning)


def _refusal(problems: list[str], told: Mapping[str, tuple], chapter: str | None) -> str:
    head = ("name", "type", "default", "allowed", "meaning")
    rows = [head, *((name, *words) for name, words in told.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    title = "these parameters cannot be used:"
    if chapter:
        title = f"{chapter} cannot run with these parameters:"
    return "\n  ".join([title, *problems]) + "\nWhat is allowed:\n  " + "\n  ".join(table)


def _card(values: dict, changed: tuple, told: Mapping[str, tuple], chapter: str | None) -> str:
    """The parameter card, in Markdown: what this run used, and the command for other values."""
    lines = ["| parameter | this run | default | allowed | meaning |", "|" + 5 * " :-- |"]
    for name, words in told.items():
        _, default, allowed, meaning = (word.replace("|", "\\|") for word in words)
        value = f"**`{values[name]}`**" if name in changed else f"`{values[name]}`"
        default = f"`{default}`" if default else ""
        lines.append(f"| `{name}` | {value} | {default} | {allowed} | {meaning} |")
    shown = changed or list(values)[:1]
    given = (f"-p {name} {shlex.quote(str(values[name]))}" for name in shown)
    commands = [" ".join([f"papermill chapters/{chapter or 'CHAPTER'}.ipynb out.ipynb", *given])]
    if chapter:
        assigned = " ".join(f"{name}={values[name]}" for name in shown)
        commands.append(f'make rerun CHAPTER={chapter} PARAMS="{assigned}"')
    title = f"Changed: {', '.join(f'`{name}`' for name in changed)}."
    if not changed:
        title = "All parameters at their defaults."
    invitation = "This run again:" if changed else "To run this chapter with other values:"
    return "\n".join([title, "", *lines, "", invitation, "", "```bash", *commands, "```"])
