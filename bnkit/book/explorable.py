"""The directive ``explorable``: something on the page that readers can move.

::

    ```{explorable} batch
    :question: What becomes of a value, and of the others, when it moves?
    :alt: What the static picture shows, for readers who do not see it.

    The caption: what to try, and what one finds.
    ```

The page gets question, static picture and caption; a script, ``_static/explorables/batch.js``, puts
controls and a live picture in the static one's place. The static pictures are drawn, and recorded
runs written, by a program of their own, ``DRAW``: the press knows no mathematics.
"""

import subprocess
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bnkit.book.chapter import program

STATIC = Path(__file__).with_name("_static") / "explorables"
SHARED = ("arithmetic", "kit", "network")  # scripts that are no explorables
# what one needs beside its own script
ALSO = {"depth": ("network",), "training": ("network",)}
WITH_DATA = {"layers"}  # explorables that show recorded runs, out of a script that stills writes
DRAW = """
import sys, pathlib
from bnkit.plots import stills
from bnkit.studies import explorables
folder, *names = sys.argv[1:]
for name in names:
    drawing = stills.PICTURES[name](explorables.SETTINGS[name]())
    stills.save(drawing, pathlib.Path(folder, f"{name}.svg"))
if "layers" in names:
    pathlib.Path(folder, "layers-data.js").write_text(explorables.script(), encoding="utf-8")
"""
NAMES = sorted({path.stem for path in STATIC.glob("*.js")} - set(SHARED))


class explorable(nodes.General, nodes.Element):
    """One explorable; its only child is the caption."""


class Explorable(SphinxDirective):
    """``{explorable} NAME``, with a question, an alternative text and a caption."""

    required_arguments = 1
    has_content = True
    option_spec = dict.fromkeys(("question", "alt"), directives.unchanged_required)

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in NAMES:
            raise self.error(f"there is no explorable {name!r}; there are: {', '.join(NAMES)}")
        if missing := [key for key in ("question", "alt") if key not in self.options]:
            raise self.error(f"the explorable {name!r} has no {' and no '.join(missing)}")
        self.assert_has_content()
        node = explorable("", name=name, **self.options)
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


def connect(app: Sphinx) -> None:
    """Teach Sphinx the directive, the scripts of a page, and where the pictures come from."""
    app.add_directive("explorable", Explorable)
    app.add_node(explorable, html=(_open, _close))
    app.connect("html-page-context", _scripts)
    app.connect("build-finished", _stills)


def _open(translator: nodes.NodeVisitor, node: explorable) -> None:
    up = "../" * translator.builder.current_docname.count("/")
    name, question, alt = (escape(node[key]) for key in ("name", "question", "alt"))
    picture = f'src="{up}_static/explorables/{name}.svg" alt="{alt}"'
    translator.body.append(
        f'<figure class="explorable" id="explorable-{name}" data-explorable="{name}">\n'
        f'<p class="explorable-question">{question}</p>\n'
        f'<div class="explorable-stage" hidden></div>\n'
        f'<img class="explorable-still" loading="lazy" {picture}>\n<figcaption>\n'
    )


def _close(translator: nodes.NodeVisitor, node: explorable) -> None:
    translator.body.append("</figcaption>\n</figure>\n")


def _used(document: nodes.document | None) -> list[str]:
    return sorted({node["name"] for node in document.findall(explorable)} if document else ())


def _scripts(app: Sphinx, page: str, template: str, context: dict, document: object) -> None:
    """A page loads the scripts of its own explorables, and no other page any."""
    if names := _used(document):
        data = [f"{name}-data" for name in names if name in WITH_DATA]
        also = sorted({script for name in names for script in ALSO.get(name, ())})
        app.add_css_file("explorables/explorables.css", priority=910)
        for script in ("arithmetic", "kit", *also, *data, *names):
            app.add_js_file(f"explorables/{script}.js", loading_method="defer")


def _stills(app: Sphinx, exception: Exception | None) -> None:
    """Have the static pictures drawn of the explorables that pages show, beside their scripts."""
    pages = () if exception else sorted(app.env.found_docs)
    if names := sorted({name for page in pages for name in _used(app.env.get_doctree(page))}):
        target = Path(app.outdir, "_static", "explorables")
        done = subprocess.run(
            program(DRAW, str(target), *names), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"the pictures of {', '.join(names)} failed:\n{done.stderr}")
