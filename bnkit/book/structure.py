"""What a committed notebook must look like: clean, checkable, and the same to JupyterLab, papermill
and the book.
"""

import ast
import re
from collections.abc import Callable, Iterator

import nbformat
from nbformat import NotebookNode

from bnkit.book import typed_numbers
from bnkit.book.gate import Finding
from bnkit.book.layout import GENERATED, Book
from bnkit.page.parameters import ParameterError, read_cell

READABLE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
RANDOM = re.compile(r"[0-9a-f]{8}(-[0-9a-f-]+)?")  # what tools give a new cell
ABSOLUTE = re.compile(r"""["'(](/(?!chapters/)[A-Za-z][\w.-]*/|~/|[A-Z]:\\)""")
RELATIVE = re.compile(r"""\b(?:open|Path|read_text|read_csv|loadtxt|np\.load)\(\s*["'][^"']+["']""")


def check(book: Book) -> list[Finding]:
    """Every finding in the book's committed notebooks, and between them, the folder and
    ``_toc.yml``."""
    found = list(_folder(book))
    names: dict[str, str] = {}
    for path in sorted((book.root / "chapters").glob("*.ipynb")):
        document = f"chapters/{path.stem}"
        try:
            notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
            nbformat.validate(notebook)
        except (nbformat.ValidationError, nbformat.reader.NotJSONError, OSError) as error:
            found.append(
                Finding(document, "", f"is not a valid notebook: {str(error).splitlines()[0]}")
            )
            continue
        found += [Finding(document, *what) for rule in RULES for what in rule(notebook)]
        for cell in notebook.cells:
            name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
            if name and names.setdefault(name, document) != document:
                found.append(
                    Finding(document, cell.id, f"names its figure {name!r} as {names[name]} does")
                )
    return found if found else list(typed_numbers.check(book))  # which reads what is sound


def _folder(book: Book) -> Iterator[Finding]:
    """``_toc.yml`` lists what is in the folder, once, and the folder holds what it lists."""
    listed = book.documents()
    for document in listed:
        if listed.count(document) > 1:
            yield Finding(document, "", "is listed twice in _toc.yml")
    there = {
        f"chapters/{path.stem}"
        for path in (book.root / "chapters").glob("*")
        if path.suffix in (".ipynb", ".md")
    }
    for document in sorted(there - set(listed)):
        yield Finding(document, "", "is in the folder, but _toc.yml does not list it")
    for document in sorted(set(listed) - there - {GENERATED}):
        yield Finding(document, "", "is listed in _toc.yml, but there is no such file")


# One notebook. Each rule yields (cell id, problem).


def clean(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """No outputs, no counts, no trace of a run."""
    for cell in notebook.cells:
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield cell.id, "holds outputs of a run; remove them: python -m bnkit.book strip"
        for key in ("papermill", "execution"):
            if key in cell.metadata:
                yield cell.id, f"holds metadata of a run: {key}"
    for key in sorted(notebook.metadata.keys() - {"kernelspec", "language_info", "bnkit"}):
        yield "", f"holds metadata that belong to one machine or run: {key}"


def kernel(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """Every machine with Python knows the kernel, and no version of Python is written down."""
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        yield (
            "",
            f"is of format {notebook.nbformat}.{notebook.nbformat_minor}; cells have ids from "
            "4.5 on",
        )
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "", "must name the kernel python3, which every installation has"
    if notebook.metadata.get("language_info") != {"name": "python"}:
        yield (
            "",
            'must have the language_info {"name": "python"} and nothing in it that changes with the machine',
        )


def ids(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """Cells have names that say what they are: messages and the claims ledger refer to them."""
    seen = set()
    for cell in notebook.cells:
        name = cell.get("id", "")
        if name in seen:
            yield name, "has the id of another cell"
        seen.add(name)
        if not READABLE.fullmatch(name) or RANDOM.fullmatch(name):
            yield name, "needs an id that says what it is, such as 'figure-accuracy'"


def opening(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """A chapter opens with a title and a lead, then its parameters, then their check."""
    first = notebook.cells[0] if notebook.cells else None
    if (
        first is None
        or first.cell_type != "markdown"
        or not re.match(r"# \S.*\n\s*\n\S", first.source)
    ):
        yield (
            getattr(first, "id", ""),
            "must open the chapter with a title, '# ...', and a lead below it",
        )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    if len(code) < 2 or tagged != code[:1]:
        yield (
            "",
            "must have one cell tagged 'parameters', its first code cell, and a cell that checks "
            "them",
        )
        return
    try:
        for parameter in read_cell(code[0].source):
            if not parameter.meaning:
                yield (
                    code[0].id,
                    f"says nothing about what {parameter.name} means; write it behind the value: "
                    "# ...",
                )
    except ParameterError as error:
        yield code[0].id, str(error)
    if "parameters.check(" not in code[1].source:
        yield (
            code[1].id,
            "is the second code cell and must check the parameters: parameters.check(globals(), "
            "...)",
        )


def code(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """Cells are plain Python that works from any folder, without a network, and leave nothing
    undone."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if not cell.source.strip():
            yield cell.id, "is empty"
        if magic := re.search(r"^\s*[!%].*", cell.source, re.MULTILINE):
            yield cell.id, f"is not plain Python: {magic[0].strip()}"
            continue
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            yield cell.id, f"is not Python: {error}"
        for pattern, what in (
            (ABSOLUTE, "an absolute path"),
            (RELATIVE, "a path relative to wherever it is run"),
        ):
            if match := pattern.search(cell.source):
                yield cell.id, f"uses {what}: {match[0]}"


def figures(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """A figure has a name, a caption and a text for those who cannot see it; none of them twice on
    a page."""
    seen = set()
    for cell in notebook.cells:
        about = cell.metadata.get("mystnb", {})
        if not about:
            continue
        name, caption = (about.get("figure", {}).get(key, "") for key in ("name", "caption"))
        if not name.startswith("fig-"):
            yield cell.id, f"needs a figure name that begins with 'fig-', not {name!r}"
        if name in seen:
            yield cell.id, f"has the figure name {name!r} of another cell"
        seen.add(name)
        if not caption:
            yield cell.id, "needs a caption: the finding first, then how to read it"
        if len(about.get("image", {}).get("alt", "")) < 20:
            yield cell.id, "needs an alt text that says what is to be seen"


def headings(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """One title; below it no level is left out."""
    level = 0
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        prose = re.sub(
            r"^(`{3,}|~{3,}|:{3,}).*?^\1", "", cell.source, flags=re.MULTILINE | re.DOTALL
        )
        for marks, title in re.findall(r"^(#+) +(.+)$", prose, re.MULTILINE):
            if len(marks) == 1 and level:
                yield cell.id, f"has a second title: {title!r}"
            elif len(marks) > level + 1:
                yield cell.id, f"leaves out a level of headings: {title!r}"
            level = len(marks)


RULES: tuple[Callable[[NotebookNode], Iterator[tuple[str, str]]], ...] = (
    clean,
    kernel,
    ids,
    opening,
    code,
    figures,
    headings,
)
