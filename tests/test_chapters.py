"""The committed chapters: clean, checkable, in the reading order, and running from end to end in a
small setting.
"""

import copy
import json
import shutil
from pathlib import Path

import in_process
import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from bnkit.book import evidence, gate, structure
from bnkit.book.chapter import workshop
from bnkit.book.layout import Book
from bnkit.book.structure import strip
from bnkit.page import parameters

ROOT = Path(__file__).parents[1]
BOOK = Book(ROOT)
CLAIMS = evidence.ledger(BOOK)
CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))


def test_folder_notebooks_and_reading_order_are_in_order():
    assert list(map(str, structure.check(BOOK))) == []


def test_ledger_chapters_and_tests_bear_each_other_out():
    assert list(map(str, evidence.committed(BOOK, CLAIMS))) == []


def test_stripping_would_change_nothing():
    done = strip([ROOT / "chapters" / f"{name}.ipynb" for name in CHAPTERS], verify=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- every chapter runs ---------------------------------------------------------------------------


def problems(name: str, committed: dict, executed: dict, small: dict) -> list:
    """What keeps an executed chapter out of the book, by what it shows and by what it measured."""
    chapter = gate.Chapter(f"chapters/{name}", committed, executed)
    # it runs with other parameters, on purpose
    rules = [rule for rule in gate.RULES if rule is not gate.sources]
    shown = [finding for rule in rules for finding in rule(chapter)]
    return shown + list(evidence.measured(chapter, CLAIMS, at_defaults=not small))


def read(name: str) -> tuple[dict, dict]:
    """A committed chapter, and its small setting."""
    committed = json.loads((ROOT / "chapters" / f"{name}.ipynb").read_bytes())
    return committed, committed["metadata"].get("bnkit", {}).get("small", {})


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_chapter_runs_in_its_small_setting(name):
    """From end to end, its assertions included; the gate lets pass what it shows and what it
    measured. `make book` runs every chapter in a kernel, in full."""
    committed, small = read(name)
    assert problems(name, committed, in_process.executed(committed, small), small) == []


def test_a_kernel_of_its_own_shows_the_same(tmp_path):
    """By papermill, as in the book: what other chapters show here is what they show there."""
    name = "00-in-two-minutes"
    clean, executed = ROOT / "chapters" / f"{name}.ipynb", tmp_path / f"{name}.ipynb"
    committed, small = read(name)
    with workshop(BOOK) as shop:
        problem = shop.run(clean, executed, small, seconds=300, live=False)
    assert problem is None, problem
    in_kernel = json.loads(executed.read_bytes())
    assert problems(name, committed, in_kernel, small) == []
    assert shown(in_kernel) == shown(in_process.executed(committed, small))


def shown(notebook: dict) -> list[list[dict]]:
    """What each cell shows, however its lines are stored. PNG is left out: only viewers that trust
    no SVG need it, and in this process it is not drawn."""
    cells = [cell.get("outputs", []) for cell in notebook["cells"]]
    return [[whole(output.get("data", output)) for output in outputs] for outputs in cells]


def whole(data: dict) -> dict:
    lines = {kind: part for kind, part in data.items() if kind != "image/png"}
    return {k: "".join(part) if isinstance(part, list) else part for k, part in lines.items()}


# each parameter of this name needs more; 0 steps and seeds may stand for those of the records
NEVER = {"depth": 0, "batch": 1, "width": 0}


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_chapter_refuses_parameters_out_of_range_and_says_what_is_allowed(name):
    clean = ROOT / "chapters" / f"{name}.ipynb"
    cells = [
        cell
        for cell in nbformat.read(clean, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    ]
    for declared in parameters.read_cell(cells[0].source):
        bad = (
            NEVER.get(declared.name, -1) if declared.type in ("int", "float") else "something else"
        )
        with pytest.raises(parameters.ParameterError) as refusal:
            parameters.dry_run(clean, {declared.name: bad})
        message = str(refusal.value)
        assert f"{declared.name}: {bad!r}" in message
        assert "What is allowed:" in message


# --- the rules can tell good from bad -------------------------------------------------------------


def folded(*tags: str, hidden: tuple[str, ...] = ("source",), **more: object) -> dict:
    """The metadata of evidence."""
    tagged = {"tags": [*tags, "evidence"], "jupyter": {f"{each}_hidden": True for each in hidden}}
    return tagged | more


def model() -> NotebookNode:
    """A chapter as it should be."""
    figure = {
        "figure": {"name": "fig-a", "caption": "A finding."},
        "image": {"alt": "What is to be seen in it."},
    }
    cells = [
        new_markdown_cell(
            "# A title\n\nA lead.\n\n## A section\n\n```python\n# no heading\n```", id="title"
        ),
        new_code_cell("seed: int = 0  # a seed", id="parameters", metadata=folded("parameters")),
        new_code_cell(
            "p = parameters.check(globals(), seed=parameters.integer(0, 1))",
            id="check",
            metadata=folded("hide-output", hidden=("source", "outputs")),
        ),
        new_code_cell("draw(p.seed / 2)", id="figure-a", metadata=folded(mystnb=figure)),
        new_code_cell("import numpy as np", id="tools", metadata={"tags": ["teaching"]}),
        new_code_cell("np.arange(3)", id="count", metadata={"tags": ["teaching"]}),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


def found(notebook: NotebookNode) -> list[str]:
    return [problem for rule in structure.RULES for _, problem in rule(notebook)]


def test_the_model_passes():
    nbformat.validate(model())
    assert found(model()) == []


def add(source: str):
    return lambda nb: nb.cells.append(new_code_cell(source, id="another", metadata=folded()))


def teach(source: str):
    teaching = {"tags": ["teaching"]}
    return lambda nb: nb.cells.append(new_code_cell(source, id="another", metadata=teaching))


def write(text: str):
    return lambda nb: nb.cells.append(new_markdown_cell(text, id="another"))


MUTANTS = {
    "an output": (lambda nb: nb.cells[1].update(execution_count=1), "holds outputs of a run"),
    "a trace of papermill": (
        lambda nb: nb.cells[1].metadata.update(papermill={}),
        "metadata of a run: papermill",
    ),
    "a trace of widgets": (
        lambda nb: nb.metadata.update(widgets={}),
        "belong to one machine or run: widgets",
    ),
    "another kernel": (lambda nb: nb.metadata.kernelspec.update(name="mine"), "the kernel python3"),
    "a version of Python": (
        lambda nb: nb.metadata.language_info.update(version="3.11"),
        "language_info",
    ),
    "an old format": (lambda nb: nb.update(nbformat_minor=4), "cells have ids from 4.5 on"),
    "an id twice": (lambda nb: nb.cells[3].update(id="check"), "the id of another cell"),
    "a random id": (lambda nb: nb.cells[3].update(id="1f3a9c0e"), "an id that says what it is"),
    "no title": (lambda nb: nb.cells.pop(0), "must open the chapter with a title"),
    "no lead": (
        lambda nb: nb.cells[0].update(source="# A title"),
        "must open the chapter with a title",
    ),
    "no parameters": (lambda nb: nb.cells[1].metadata.tags.pop(0), "one cell tagged 'parameters'"),
    "a second parameter cell": (
        lambda nb: nb.cells[3].metadata.update(tags=["parameters"]),
        "one cell tagged",
    ),
    "a computed parameter": (
        lambda nb: nb.cells[1].update(source="seed: int = 1 + x  # s"),
        "only lines like",
    ),
    "a parameter without meaning": (
        lambda nb: nb.cells[1].update(source="seed: int = 1"),
        "what seed means",
    ),
    "no check": (lambda nb: nb.cells[2].update(source="p = 1"), "must check the parameters"),
    "an empty cell": (add(" \n"), "is empty"),
    "a shell line": (add("!ls"), "not plain Python: !ls"),
    "an installation": (add("%pip install torch"), "not plain Python: %pip"),
    "broken code": (add("def"), "is not Python"),
    "an absolute path": (add('open("/home/a/b")'), "an absolute path"),
    "a relative path": (add('np.load("curves.npy")'), "a path relative to"),
    "no alt text": (lambda nb: nb.cells[3].metadata.mystnb.image.clear(), "an alt text"),
    "no figure name": (lambda nb: nb.cells[3].metadata.mystnb.figure.pop("name"), "a figure name"),
    "no caption": (lambda nb: nb.cells[3].metadata.mystnb.figure.pop("caption"), "needs a caption"),
    "a figure name twice": (
        lambda nb: nb.cells.append(
            new_code_cell("1", id="b", metadata=copy.deepcopy(nb.cells[3].metadata))
        ),
        "has the figure name 'fig-a' of another cell",
    ),
    "no kind": (lambda nb: nb.cells[4].metadata.clear(), "needs one tag of the two"),
    "two kinds": (
        lambda nb: nb.cells[4].metadata.update(tags=["teaching", "evidence"]),
        "needs one tag of the two",
    ),
    "evidence that JupyterLab shows": (
        lambda nb: nb.cells[3].metadata.pop("jupyter"),
        'must have "jupyter": {"source_hidden": true}',
    ),
    "a card that JupyterLab shows": (
        lambda nb: nb.cells[2].metadata.jupyter.pop("outputs_hidden"),
        '{"outputs_hidden": true, "source_hidden": true}',
    ),
    "teaching that JupyterLab hides": (
        lambda nb: nb.cells[4].metadata.update(jupyter={"source_hidden": True}),
        'is teaching; its metadata must have "jupyter": {}',
    ),
    "a long lesson": (teach("1\n" * 13), "teaches in 13 lines"),
    "a wide lesson": (teach(f"x = '{'a' * 80}'"), "teaches in lines of 86 columns"),
    "a lesson with the workshop's tools": (
        teach("from bnkit import plots\nimport bnkit.layers"),
        "teaches with bnkit.plots",
    ),
    "a lesson on another library": (teach("import sklearn.datasets"), "teaches with sklearn"),
    "a lesson on nothing": (teach("[line for _ in np.arange(3)]"), "'line', which no cell"),
    "a lesson on evidence": (teach("print(p)"), "'p', which the evidence in 'check' defines"),
    "a lesson that evidence changes": (
        lambda nb: (add("np = 3")(nb), nb.cells.insert(99, nb.cells.pop(5))),
        "'np', which the evidence in 'another' defines",
    ),
    "a second title": (write("# Another"), "a second title"),
    "a level left out": (write("#### Deep"), "leaves out a level"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_rules_refuse(name):
    spoil, said = MUTANTS[name]
    notebook = model()
    spoil(notebook)
    assert any(said in problem for problem in found(notebook)), found(notebook)


@pytest.fixture
def folder(tmp_path) -> Book:
    (tmp_path / "chapters").mkdir()
    nbformat.write(model(), tmp_path / "chapters" / "01-a.ipynb")
    (tmp_path / "chapters" / "index.md").write_text("# T\n")
    files = "".join(f"  - file: chapters/{name}\n" for name in ("01-a", "this-build"))
    (tmp_path / "_toc.yml").write_text(f"format: jb-book\nroot: chapters/index\nchapters:\n{files}")
    return Book(tmp_path)


def test_a_folder_that_equals_its_reading_order_passes(folder):
    assert structure.check(folder) == []


def test_a_page_needs_no_number(folder):
    (folder.root / "chapters" / "01-a.ipynb").rename(folder.root / "chapters" / "the-layer.ipynb")
    toc = folder.root / "_toc.yml"
    toc.write_text(toc.read_text().replace("01-a", "the-layer"))
    assert structure.check(folder) == []
    assert folder.chapter("the-layer") == "chapters/the-layer"


def test_a_folder_that_differs_from_its_reading_order_is_refused(folder):
    chapters = folder.root / "chapters"
    (chapters / "draft.md").write_text("# D\n")
    (chapters / "index.md").unlink()
    shutil.copy(chapters / "01-a.ipynb", chapters / "02-a.ipynb")
    assert [str(finding) for finding in structure.check(folder)] == [
        "chapters/02-a: is in the folder, but _toc.yml does not list it",
        "chapters/draft: is in the folder, but _toc.yml does not list it",
        "chapters/index: is listed in _toc.yml, but there is no such file",
        "chapters/02-a, cell 'figure-a': names its figure 'fig-a' as chapters/01-a does",
    ]


def test_a_file_that_is_no_notebook_is_refused(folder):
    (folder.root / "chapters" / "01-a.ipynb").write_text("{}")
    assert "is not a valid notebook" in str(structure.check(folder)[0])


def test_a_notebook_with_outputs_is_not_stripped_already(folder):
    path = folder.root / "chapters" / "01-a.ipynb"
    assert strip([path], verify=True).returncode == 0
    notebook = model()
    notebook.cells[3].execution_count = 3
    nbformat.write(notebook, path)
    assert strip([path], verify=True).returncode == 1
    assert strip([path]).returncode == 0
    assert nbformat.read(path, as_version=4) == model(), "ids, tags and figures stay"
