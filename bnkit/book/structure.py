"""What is committed must look like this: notebooks clean, checkable, and the same to JupyterLab,
papermill and the book; the folder as ``_toc.yml`` lists it; the lock plain and complete.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from packaging.markers import InvalidMarker, Marker

from bnkit.book import parts, spelling, teaching, typed_numbers
from bnkit.book.chapter import program
from bnkit.book.gate import Finding, figure_names
from bnkit.book.layout import GENERATED, Book, text_in
from bnkit.page.notebook import figure_of, headings_of, tags_of
from bnkit.page.parameters import ParameterError, read_cell

READABLE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
RANDOM = re.compile(r"[0-9a-f]{8}(-[0-9a-f-]+)?")  # what tools give a new cell
ABSOLUTE = r"""["'(](/(?!chapters/)[A-Za-z][\w.-]*/|~/|[A-Z]:\\)"""
RELATIVE = r"""\b(?:open|Path|read_text|read_csv|loadtxt|np\.load)\(\s*["'][^"']+["']"""
NOT_PORTABLE = {ABSOLUTE: "an absolute path", RELATIVE: "a path relative to wherever it is run"}
# nbstripout keeps ids, tags and figure metadata; these it would leave, and one machine left them
EXTRA_KEYS = (
    "metadata.papermill metadata.widgets metadata.language_info.version"
    " cell.metadata.papermill cell.metadata.execution"
)
PAGES = (".ipynb", ".md")
# no addresses, no hashes, no local versions
PIN = re.compile(r"([A-Za-z0-9][\w.-]*)==([\w.!-]+)(?: ; (.+))?")
# version 2 of the first has no _config.yml and no _toc.yml
FIXED = {"jupyter-book": "1.0.4.post1", "torch": "2.13.0"}


def check(book: Book) -> list[Finding]:
    """Every finding in the committed notebooks, and between them, the folder and ``_toc.yml``."""
    findings, sound = list(_folder(book)), {}
    for path in sorted((book.root / "chapters").glob("*.ipynb")):
        document = f"chapters/{path.stem}"
        try:
            notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
            nbformat.validate(notebook)
        except (nbformat.ValidationError, nbformat.reader.NotJSONError, OSError) as error:
            problem = f"is not a valid notebook: {str(error).splitlines()[0]}"
            findings.append(Finding(document, "", problem))
            continue
        sound[document] = notebook.cells
        findings += [Finding(document, *what) for rule in RULES for what in rule(notebook)]
    findings += figure_names(sound.items())
    findings += _spelling_of_pages(book)
    return findings or list(typed_numbers.check(book))  # which reads what is sound


def _spelling_of_pages(book: Book) -> Iterator[Finding]:
    """The pages in Markdown, of the book and beside it, are spelt as its chapters are."""
    beside = [*book.root.glob("*.md"), *(book.root / "data").glob("*.md")]
    for path in sorted([*beside, *(book.root / "chapters").rglob("*.md")]):
        name = path.relative_to(book.root).as_posix()
        if not any(part.startswith(".") for part in path.relative_to(book.root).parts):
            for problem in spelling.in_text(text_in(path)):
                yield Finding(name, "", problem)


def strip(notebooks: list[Path], verify: bool = False) -> subprocess.CompletedProcess:
    """Make notebooks clean for a commit, in place: for the hook, ``make check`` and the tests.

    With `verify` nothing is changed, and the exit status is 1 where there is something to remove.
    """
    options = ["--keep-id", "--extra-keys", EXTRA_KEYS, *(["--verify"] if verify else [])]
    nbstripout = "from nbstripout._nbstripout import main; main()"
    command = program(nbstripout, *options, *map(str, notebooks))
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check_lock(lock: Path) -> Iterator[str]:
    """What is wrong with the lock, and what is installed in another version than it says."""
    pins = {}
    for number, line in enumerate(text_in(lock).splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        try:
            match = PIN.fullmatch(line)
            here = match and (not match[3] or Marker(match[3]).evaluate())
        except InvalidMarker:
            match = None
        if not match:
            wanted = "NAME==VERSION, with or without ' ; MARKER'"
            yield f"{lock.name}, line {number}: {line!r} is not {wanted}"
        elif here:
            pins[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    for name, wanted in FIXED.items():
        if pins.get(name) != wanted:
            yield f"{lock.name}: {name} must be {wanted}, not {pins.get(name, 'missing')}"
    for name, wanted in pins.items():
        try:
            installed = version(name).partition("+")[0]  # torch says +cpu or +cu130 behind it
        except PackageNotFoundError:
            installed = "missing"
        if installed != wanted:
            here = f"{name} is {installed} in this environment"
            yield f"{here}, but {lock.name} says {wanted}; run: make setup"


def _folder(book: Book) -> Iterator[Finding]:
    """``_toc.yml`` lists what is in the folder, once, and the folder holds what it lists."""
    listed = book.documents()
    for document in listed:
        if listed.count(document) > 1:
            yield Finding(document, "", "is listed twice in _toc.yml")
    inside = (path.relative_to(book.root) for path in (book.root / "chapters").rglob("*"))
    written = (path for path in inside if not any(part.startswith(".") for part in path.parts))
    there = {path.with_suffix("").as_posix() for path in written if path.suffix in PAGES}
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
    stored = (notebook.nbformat, notebook.nbformat_minor)
    if stored < (4, 5):
        yield "", "is of format {}.{}; cells have ids from 4.5 on".format(*stored)
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "", "must name the kernel python3, which every installation has"
    if notebook.metadata.get("language_info") != {"name": "python"}:
        wanted = 'the language_info {"name": "python"}'
        yield "", f"must have {wanted} and nothing in it that changes with the machine"


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
    title = notebook.cells[0] if notebook.cells else NotebookNode(cell_type="", id="")
    if title.cell_type != "markdown" or not re.match(r"# \S.*\n\s*\n\S", title.source):
        yield (
            title.get("id", ""),
            "must open the chapter with a title, '# ...', and a lead below it",
        )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if len(code) < 2 or [cell for cell in code if "parameters" in tags_of(cell)] != code[:1]:
        tagged = "one cell tagged 'parameters', its first code cell"
        yield "", f"must have {tagged}, and a cell that checks them"
        return
    card, checked = code[:2]
    try:
        unsaid = [parameter.name for parameter in read_cell(card.source) if not parameter.meaning]
        for name in unsaid:
            yield card.id, f"says nothing about what {name} means; write it behind the value: # ..."
    except ParameterError as error:
        yield card.id, str(error)
    if "parameters.check(" not in checked.source:
        wanted = "must check the parameters: parameters.check(globals(), ...)"
        yield checked.id, f"is the second code cell and {wanted}"


def code(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """Cells are plain Python that works from any folder."""
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        if not cell.source.strip():
            yield cell.id, "is empty"
        if magic := re.search(r"^\s*[!%].*", cell.source, re.MULTILINE):
            yield cell.id, f"is not plain Python: {magic[0].strip()}"
            continue
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            yield cell.id, f"is not Python: {error}"
        for pattern, what in NOT_PORTABLE.items():
            if match := re.search(pattern, cell.source):
                yield cell.id, f"uses {what}: {match[0]}"


def figures(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """A figure has a name of its own, a caption, and a text for those who cannot see it."""
    seen = set()
    for cell in notebook.cells:
        if not (figure := figure_of(cell)):
            continue
        name, caption, alt = figure
        if not name.startswith("fig-"):
            yield cell.id, f"needs a figure name that begins with 'fig-', not {name!r}"
        if name in seen:
            yield cell.id, f"has the figure name {name!r} of another cell"
        seen.add(name)
        if not caption:
            yield cell.id, "needs a caption: the finding first, then how to read it"
        if len(alt) < 20:
            yield cell.id, "needs an alt text that says what is to be seen"


def headings(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """One title; below it no level is left out."""
    level = 0
    for cell in (cell for cell in notebook.cells if cell.cell_type == "markdown"):
        for depth, title in headings_of(cell):
            if depth == 1 and level:
                yield cell.id, f"has a second title: {title!r}"
            elif depth > level + 1:
                yield cell.id, f"leaves out a level of headings: {title!r}"
            level = depth


PARTS = (teaching.kinds, teaching.teaching, parts.predictions, parts.curious, parts.tabs)
RULES = (clean, kernel, ids, opening, code, *PARTS, figures, headings, spelling.spelling)
