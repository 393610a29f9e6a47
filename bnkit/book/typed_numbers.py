"""Numbers typed into text that look like findings: the commonest way for text and results to part.

Three kinds may be typed. A share or a factor that an assertion of the notebook holds, or a decimal
that stands anywhere in its code, being a setting. A fact of ``data/paper/facts.yml``, in a
paragraph that says whose it is. And what ``typed_numbers.yml`` beside this module allows, with its
reason. All else is reported by the cell that computed it, or glued.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from bnkit.book.gate import Finding
from bnkit.book.layout import Book, PressError, text_in
from bnkit.page.notebook import WRITTEN, Figure, cells_of, figure_of, source_of, tags_of

ALLOWED = Path(__file__).with_suffix(".yml")
NUMBER = r"\d[\d,]*(?:\.\d+)?(?:e[-−]?\d+)?"
SHARE = (
    rf"{NUMBER}(?:\s?(?:%|percent\b|points\b)|[\s-]?fold\b|\s?times\b|\s?×(?!\s*\d)|x\b)"
    rf"|(?<!\d)(?<!\d\s)×\s?{NUMBER}"  # no share is the size of a map, 8 × 8
)
DECIMAL = r"\d[\d,]*\.\d+(?:e[-−]?\d+)?(?!\.?\d)|\d+e[-−]?\d+"
MEASURED = re.compile(rf"(?<![\w./−-])(?:(?P<share>{SHARE})|{DECIMAL})|(?:≈|\\approx)\s?{NUMBER}")
# What is no text: formulas, unless they say about how much something is; code, roles, links;
# numbers that are names.
BLOCK = re.compile(r"^(`{3,})(?!\{).*?^\1", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^[`:]{3,}.*", re.MULTILINE)  # of a directive, which holds text
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]*\$", re.DOTALL)
SILENT = re.compile(
    r"`+[^`]*`+|\{[\w:]+\}|\]\([^)]*\)|https?://\S+"
    r"|(?:[Ss]ections?|Sec\.|[Ff]igures?|Fig\.|Algorithms?|Theorems?|Definitions?|[Vv]ersions?|arXiv|[Cc]hapters?|Tables?)"
    r"\s[\d.]+(?:(?:\s(?:and|to)|,)\s[\d.]+)*"
)
SOURCE = re.compile(
    r"\b(?:paper|paper's|note|Section|Figure|Table|Algorithm|digitized)\b|\{cite|\((?:19|20)\d\d\)"
)
REMEDY = (
    "report or glue it, assert it, or, if it is somebody else's, enter it in data/paper/facts.yml "
    "and say whose it is"
)


class Fact(NamedTuple):
    """A number that somebody else found."""

    work: str  # its key in references.bib
    place: str
    what: str
    values: tuple[str, ...]  # as printed


def facts(path: Path) -> list[Fact]:
    """The facts in a file. Raises PressError for an entry that leaves something out."""
    entries = _entries(path, Fact._fields)
    return [Fact(**entry, values=tuple(map(str, values))) for entry, values in entries]


class Code(NamedTuple):
    """The numbers in a notebook's code."""

    asserted: frozenset[float] = frozenset()
    anywhere: frozenset[float] = frozenset()


def check(book: Book) -> Iterator[Finding]:
    """Every number that is typed into the book's text and should not be."""
    of_others = facts(book.root / "data" / "paper" / "facts.yml")
    known = {_value(number) for fact in of_others for number in fact.values}
    entries = _entries(ALLOWED, ("document", "why", "values"))
    allowed = {(entry["document"], str(number)) for entry, numbers in entries for number in numbers}
    used = set()
    for document in book.written():
        for cell, text, code in _texts(book.file(document)):
            for number in typed(text, code, known):
                if (document, number) in allowed:
                    used.add((document, number))
                else:
                    yield Finding(document, cell, f"types {number!r}; {REMEDY}")
    if not ALLOWED.is_relative_to(book.root):  # the list is about another book
        return
    for document, number in sorted(allowed - used):
        if document in book.written():
            remedy = f"take it out of bnkit/book/{ALLOWED.name}"
            yield Finding(document, "", f"does not type {number!r} any more: {remedy}")


def typed(text: str, code: Code, known: Iterable[float]) -> Iterator[str]:
    """Numbers in `text` that look like findings, neither in `code` nor sourced and `known`."""
    text = FENCE.sub("", BLOCK.sub("", text))
    for paragraph in re.split(r"\n\s*\n", text):
        for match in MEASURED.finditer(SILENT.sub(" ", FORMULA.sub(_approximations, paragraph))):
            number = match[0].strip()
            held = code.asserted if match["share"] else code.anywhere
            said = {_value(number), _value(number) / (100 if re.search("%|percent", number) else 1)}
            if not said & held and not (_value(number) in known and SOURCE.search(paragraph)):
                yield number


def _approximations(formula: re.Match) -> str:
    return " ".join(re.findall(r"\\approx\s?[\d.]+", formula[0]))


def _value(number: str) -> float:
    return float(re.search(NUMBER, str(number))[0].replace(",", "").replace("−", "-"))


def _texts(path: Path) -> Iterator[tuple[str, str, Code]]:
    """The texts of a page, each with the id of its cell and the numbers in the page's code."""
    if path.suffix == ".md":
        yield "", text_in(path), Code()
        return
    cells = cells_of(path)
    trees = {cell["id"]: _tree(cell) for cell in cells if cell["cell_type"] == "code"}
    nodes = {name: list(ast.walk(tree)) for name, tree in trees.items()}
    everything = [node for here in nodes.values() for node in here]
    asserts = [node for node in everything if isinstance(node, ast.Assert)]
    asserted = [part for node in asserts for part in ast.walk(node)]
    code = Code(_numbers(asserted), _numbers(everything))
    for cell in cells:
        if WRITTEN in tags_of(cell):
            continue  # from a file, by the press
        if cell["cell_type"] == "markdown":
            yield cell["id"], source_of(cell), code
            continue
        figure = figure_of(cell) or Figure()
        yield cell["id"], f"{figure.caption}\n\n{figure.alt}", code
        yield cell["id"], "\n\n".join(_reported(nodes[cell["id"]])), code


def _tree(cell: dict) -> ast.Module:
    try:
        return ast.parse(source_of(cell))
    except SyntaxError:
        return ast.Module([], [])  # that is said elsewhere


def _numbers(nodes: Iterable[ast.AST]) -> frozenset[float]:
    constants = (node.value for node in nodes if isinstance(node, ast.Constant))
    return frozenset(float(value) for value in constants if type(value) in (int, float))


def _reported(nodes: list[ast.AST]) -> Iterator[str]:
    """The typed parts of what a cell reports."""
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        if ast.unparse(call.func).rpartition(".")[2] in ("report", "table"):
            parts = (node.value for node in ast.walk(call) if isinstance(node, ast.Constant))
            yield from (part for part in parts if isinstance(part, str))


def _entries(path: Path, fields: tuple[str, ...]) -> list[tuple[dict, list]]:
    """The entries of a file, each without its values, and these."""
    if not path.is_file():
        return []
    try:
        entries = yaml.safe_load(text_in(path)) or []
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise PressError(f"{path} cannot be read: {error}") from None
    if not isinstance(entries, list):
        raise PressError(f"{path} must be a list, not {type(entries).__name__}")
    for position, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or set(entry) != set(fields) or not all(entry.values()):
            wanted = f"must have {', '.join(fields)} and nothing else"
            raise PressError(f"{path.name}, entry {position}: {wanted}: {entry}")
    return [(entry, entry.pop("values")) for entry in entries]
