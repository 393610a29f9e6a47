"""Teaching cells: what they need, and that each chapter's are a notebook of their own."""

import json

import matplotlib.pyplot as plt
import nbformat
import pytest
from tiny_books import EVIDENCE, code, good, markdown, notebook

from bnkit import paths
from bnkit.book import teaching
from bnkit.page.notebook import code_of, kind_of

CHAPTERS = sorted((paths.root() / "chapters").glob("*.ipynb"))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_teaching_cells_run_without_the_evidence(path):
    own = teaching.just_the_code(json.loads(path.read_bytes()))
    names = {"__name__": "__main__"}
    try:
        for source in code_of(own["cells"] if own else []):
            exec(compile(source, path.stem, "exec"), names)
    finally:
        plt.close("all")


@pytest.mark.parametrize(
    ("source", "needed", "bound"),
    [
        ("import numpy as np\nfrom a.b import c as d", "", "np d"),
        ("y = [x * f(z) for x in range(3)]", "f z range", "y"),
        ("def f(x, eps=tiny):\n    return x + g + f(x)", "tiny g", "f"),
        ("class A(B):\n    def m(self):\n        return C", "B C", "A"),
        ("a, (b, *c) = d\nfor i in e:\n    a += i", "d e", "a b c i"),
        ("square = lambda x: x * y", "y", "square"),
        ("with f() as g:\n    g.h(k=w)", "f w", "g"),
    ],
)
def test_the_names_that_a_cell_needs_and_binds(source, needed, bound):
    assert teaching.names(source) == (set(needed.split()), set(bound.split()))


def test_the_modules_that_a_cell_imports():
    source = "import torch.nn as nn\nfrom bnkit import layers\nfrom numpy import linalg"
    assert list(teaching.imports(source)) == ["torch.nn", "bnkit.layers", "numpy"]


def test_just_the_code_has_the_teaching_cells_below_their_headings():
    teach = {"tags": ["teaching"]}
    chapter = notebook(
        markdown("title", "# T\n\n## A\n\n### Passed over\n\ntext\n\n```python\n# none\n```"),
        code("hidden", "1", **EVIDENCE),
        markdown("more", "### Here"),
        code("one", "2", **teach),
        code("two", "3", **teach),
        markdown("next", "## B"),
        code("three", "4", **teach),
    )
    own = teaching.just_the_code(chapter)
    nbformat.validate(nbformat.from_dict(own))
    told = ["# T\n\n## A\n\n### Here", "2", "3", "## B", "4"]
    assert [cell["source"] for cell in own["cells"]] == told
    assert all(cell["metadata"] == {} for cell in own["cells"])


def test_a_chapter_without_teaching_has_no_such_notebook():
    assert teaching.just_the_code(notebook(markdown("title", "# T"), code("a", "1"))) is None


def test_cells_of_a_tiny_book_have_their_kinds():
    kinds = [kind_of(cell) for cell in good()["cells"] if cell["cell_type"] == "code"]
    assert kinds == ["evidence"] * 4 + ["teaching", "evidence"]
