"""Cells that run in the reader's browser: which can, and what the site carries for it.

Teaching cells (tag ``teaching``) that import nothing but what is there get edit boxes, by
``_static/run/run.js``; so do exercises::

    ```{try-it} backward
    def mine(x, gamma, beta, dy, eps):
        ...
    ```

whose function ``bnkit.studies.exercises`` checks. The runtime is a data set,
``bnkit.datasets.runtime``. Without it pages are what they were, and exercises plain code.
"""

import base64
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.docutils import SphinxDirective

from bnkit.book import teaching
from bnkit.book.stale import modules_used
from bnkit.datasets import DataError, runtime
from bnkit.page.notebook import TEACHING

OURS = ("reference", "whitening", "gradcheck")  # of bnkit, for readers
PRESENT = {"numpy", "matplotlib", *(f"bnkit.{name}" for name in OURS)}
ROOTS = (
    f"from bnkit import {', '.join(OURS)}",
    "from bnkit.page import live",
    "from bnkit.studies import exercises",
)
# that bnkit.studies.exercises checks; a test holds that they are the same
EXERCISES = ("forward", "backward", "observe", "infer", "fold", "feature-maps")
FOLDER = "_static/run"
STATIC = Path(__file__).with_name("_static") / "run"


class try_it(nodes.General, nodes.Element):
    """An exercise that the page checks; its only child is the code to begin with."""


class TryIt(SphinxDirective):
    """``{try-it} NAME``: code to begin with, and the name of its checker."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        self.assert_has_content()
        if (name := self.arguments[0]) not in EXERCISES:
            allowed = ", ".join(EXERCISES)
            raise self.error(f"there is no exercise {name!r}; there are: {allowed}")
        code = "\n".join(self.content)
        block = nodes.literal_block(code, code, language="python")
        return [try_it("", block, name=name)]


def connect(app: Sphinx) -> None:
    """Teach Sphinx the directive, which cells run, and to write the runtime into the site."""
    app.add_directive("try-it", TryIt)
    app.add_node(try_it, html=(_open, _close))
    app.connect("builder-inited", _find)
    app.connect("doctree-read", _mark)
    app.connect("html-page-context", _scripts)
    app.connect("build-finished", _write)


def _open(translator: nodes.NodeVisitor, node: try_it) -> None:
    runs = " run-here" if "run" in node else ""
    name = escape(node["name"])
    translator.body.append(f'<div class="try-it{runs}" data-check="{name}">\n')


def _close(translator: nodes.NodeVisitor, node: try_it) -> None:
    translator.body.append("</div>\n")


def _find(app: Sphinx) -> None:
    try:
        app.bnkit_runtime = runtime.found()
    except DataError as error:  # else Sphinx wraps it, and the message is hard to find
        raise SphinxError(str(error)) from error


def _mark(app: Sphinx, document: nodes.document) -> None:
    """Cells and exercises that run get a class, by which the page's script finds them."""
    if app.bnkit_runtime is None:
        return
    cells = [cell for cell in document.findall(nodes.container) if _is_teaching(cell)]
    codes = [next(cell.findall(nodes.literal_block)).astext() for cell in cells]
    for cell, runs in zip(cells, runnable(codes), strict=True):
        if runs:
            cell["classes"].append("run-here")
    for exercise in document.findall(try_it):
        exercise["run"] = True


def _is_teaching(node: nodes.container) -> bool:
    return TEACHING in node.get("cell_metadata", {}).get("tags", ())


def _runs(document: nodes.document) -> bool:
    cells = any("run-here" in node["classes"] for node in document.findall(nodes.container))
    return cells or any("run" in node for node in document.findall(try_it))


def _scripts(app: Sphinx, page: str, template: str, context: dict, document: object) -> None:
    if document is not None and _runs(document):
        app.add_css_file("run/run.css", priority=910)
        app.add_js_file("run/run.js", loading_method="defer")


def _write(app: Sphinx, exception: Exception | None) -> None:
    """The runtime and our own sources go into the site if any page can run something."""
    if exception is None and app.bnkit_runtime is not None:
        pages = sorted(app.env.found_docs)
        if any(_runs(app.env.get_doctree(page)) for page in pages):
            write(app.bnkit_runtime, Path(app.outdir, FOLDER))


def runnable(codes: Iterable[str]) -> Iterator[bool]:
    """Of cells in order, which run with what is there: NumPy, matplotlib, three modules of bnkit.

    A cell does not if it imports anything else, or takes what such a cell has made.
    """
    lacking: set[str] = set()
    for code in codes:
        try:
            needed, (_, made) = teaching.taken(code), teaching.names(code)
        except SyntaxError:  # a magic of IPython's
            yield False
            continue
        runs = all(map(_is_present, teaching.imports(code))) and not needed & lacking
        lacking = lacking - made if runs else lacking | made
        yield runs


def _is_present(name: str) -> bool:
    first, second = [*name.split("."), ""][:2]
    known = f"{first}.{second}" if first == "bnkit" else first
    return known in PRESENT or first in sys.stdlib_module_names


def write(python: runtime.Runtime, folder: Path) -> None:
    """Write runtime and sources into `folder`, as scripts: pages opened from a disk load these."""
    facts = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in python.files.items()
    }
    start = [*runtime.CORE, *python.packages["numpy"]]
    manifest = {"files": facts, "start": start, "packages": python.packages}
    _script(folder / "manifest.js", f"own.manifest = {json.dumps(manifest)}")
    used = modules_used(ROOTS, package := Path(__file__).parents[1])
    texts = {path.relative_to(package.parent).as_posix(): path.read_text("utf-8") for path in used}
    sources = json.dumps(dict(sorted(texts.items())))
    _script(folder / "sources.js", f"own.sources = {sources}")
    for name, content in python.files.items():
        encoded = base64.b64encode(content).decode()
        _script(folder / f"{name}.js", f'file("{name}", "{encoded}")')


def _script(path: Path, statement: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"window.bnkit.runHere.{statement};\n", encoding="utf-8")
