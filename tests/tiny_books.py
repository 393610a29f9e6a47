"""Tiny books for tests of the press: their pages, and the press at work on them."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from bnkit.book.layout import Book

ROOT = Path(__file__).parents[1]

CHECK = """\
from bnkit import plots
from bnkit.page import parameters, prose

p = parameters.check(globals(), chapter="01-good", seed=parameters.integer(0, 9), quick=parameters.flag())
p"""
FIGURE = """\
drawing, axes = plots.figure()
axes.plot([0, p.seed + 1])
drawing"""
TOLD = {
    "mystnb": {
        "figure": {"name": "fig-line", "caption": "A line rises. From left to right."},
        "image": {"alt": "A line that rises from left to right."},
    }
}
REPORT = 'prose.report(f"A third is {1 / 3:.3f}, see [the first page](index.md).")\nprose.glue("third", 1 / 3)'


def markdown(name: str, source: str) -> dict:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": source}


def code(name: str, source: str, **metadata) -> dict:
    empty = {"outputs": [], "execution_count": None}
    return {"cell_type": "code", "id": name, "metadata": metadata, "source": source, **empty}


def notebook(*cells: dict) -> dict:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def good() -> dict:
    return notebook(
        markdown(
            "title",
            "# A chapter\n\nWith the formula $\\BN(x) = \\boldsymbol{\\gamma}\\hat x + \\beta$.",
        ),
        code(
            "parameters",
            "seed: int = 0  # a seed\nquick: bool = True  # a flag",
            tags=["parameters", "evidence"],
        ),
        code("check", CHECK, tags=["evidence", "hide-output"]),
        code("figure-line", FIGURE, **TOLD, **EVIDENCE),
        code("report", REPORT, **EVIDENCE),
        markdown("section", "## By hand\n\nA cell that a reader would type, as {cite:t}`x`:"),
        code("by-hand", "import numpy as np\n\nnp.arange(3).mean()", tags=["teaching"]),
        markdown("exercise", "### For the curious: how it ends\n\nWith a third."),
        code("solution-1", "assert 1 / 3 < 1", tags=["evidence", "hide-cell"]),
    )


EVIDENCE = {"tags": ["evidence"], "jupyter": {"source_hidden": True}}


def short(source: str, **metadata) -> dict:
    """A chapter of one cell that is of interest."""
    return notebook(
        markdown("title", "# A chapter\n\nA lead."), code("the-cell", source, **metadata)
    )


INDEX = """\
# A book

See [the chapter](01-good.ipynb): a third is {glue:text}`/chapters/01-good.ipynb::third:.2f`.

```{bibliography}
```
"""


def make_book(root: Path, chapters: dict[str, dict], index: str = INDEX) -> Book:
    """A book of these chapters with a copy of bnkit beside it, and the settings and the lock of the
    real one.

    The copy makes a test see one state of the sources, also while somebody is writing them.
    """
    package = root.with_name("bnkit")
    if not package.exists():
        shutil.copytree(ROOT / "bnkit", package, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "chapters").mkdir(parents=True)
    (root / "data").mkdir()
    for name in ("_config.yml", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    (root / "chapters" / "references.bib").write_text(
        "@misc{x, title = {X}, author = {A. Author}, year = {2015}}\n"
    )
    (root / "chapters" / "index.md").write_text(index)
    for name, content in chapters.items():
        (root / "chapters" / f"{name}.ipynb").write_text(json.dumps(content))
    files = "".join(f"  - file: chapters/{name}\n" for name in [*chapters, "this-build"])
    (root / "_toc.yml").write_text(f"format: jb-book\nroot: chapters/index\nchapters:\n{files}")
    return Book(root, package)


def press(
    book: Book, *arguments: str, limit: int | None = None, **environment: str
) -> subprocess.CompletedProcess:
    """``python -m bnkit.book`` on a tiny book, in an environment that is not of the press's
    choosing.

    The virtual environment is not on the PATH, and another kernel that calls itself python3 cannot
    even start.
    """
    decoy = book.root.parent / "decoy"
    (decoy / "kernels" / "python3").mkdir(parents=True, exist_ok=True)
    spec = {
        "argv": ["false", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    (decoy / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    return subprocess.run(
        [sys.executable, "-m", "bnkit.book", *arguments],
        cwd=book.root,
        env={**outside(book), "JUPYTER_PATH": str(decoy), "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))),
    )


def outside(book: Book) -> dict[str, str]:
    """The environment in which a process works on this book with its copy of bnkit."""
    return {**os.environ, "BNKIT_ROOT": str(book.root), "PYTHONPATH": str(book.package.parent)}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
