"""Numbers typed into text that look like findings: the commonest way in which text and results
drift apart.

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
from bnkit.book.layout import Book, PressError
from bnkit.page.notebook import cells_of, source_of

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
    r"\b(?:paper|paper's|note|Section|Figure|Table|Algorithm)\b|\{cite|\((?:19|20)\d\d\)|\bdigitised\b"
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
    return [
        Fact(**entry, values=tuple(map(str, values)))
        for entry, values in _entries(path, Fact._fields)
    ]


class Code(NamedTuple):
    """The numbers in a notebook's code."""

    asserted: frozenset[float] = frozenset()
    anywhere: frozenset[float] = frozenset()


def check(book: Book) -> Iterator[Finding]:
    """Every number that is typed into the book's text and should not be."""
    known = {
        _value(each)
        for fact in facts(book.root / "data" / "paper" / "facts.yml")
        for each in fact.values
    }
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
            yield Finding(
                document,
                "",
                f"does not type {number!r} any more: take it out of bnkit/book/{ALLOWED.name}",
            )


def typed(text: str, code: Code, known: Iterable[float]) -> Iterator[str]:
    """The numbers in `text` that look like findings, and are neither in `code` nor facts `known`
    with their source."""
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
        yield "", path.read_text(encoding="utf-8"), Code()
        return
    cells = cells_of(path)
    nodes = {
        cell["id"]: list(ast.walk(_tree(cell))) for cell in cells if cell["cell_type"] == "code"
    }
    everything = [node for here in nodes.values() for node in here]
    asserted = [
        each for node in everything if isinstance(node, ast.Assert) for each in ast.walk(node)
    ]
    code = Code(_numbers(asserted), _numbers(everything))
    for cell in cells:
        if cell["cell_type"] == "markdown":
            yield cell["id"], source_of(cell), code
            continue
        about = cell["metadata"].get("mystnb", {})
        yield (
            cell["id"],
            f"{about.get('figure', {}).get('caption', '')}\n\n{about.get('image', {}).get('alt', '')}",
            code,
        )
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
    for call in nodes:
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in (
            "report",
            "table",
        ):
            for node in ast.walk(call):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def _entries(path: Path, fields: tuple[str, ...]) -> list[tuple[dict, list]]:
    """The entries of a file, each without its values, and these."""
    if not path.is_file():
        return []
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    for position, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or set(entry) != set(fields) or not all(entry.values()):
            raise PressError(
                f"{path.name}, entry {position}: must have {', '.join(fields)} and nothing else: "
                f"{entry}"
            )
    return [
        ({key: value for key, value in entry.items() if key != "values"}, entry["values"])
        for entry in entries
    ]
