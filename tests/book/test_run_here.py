"""What readers can touch, as the press puts it on a page: explorables, cells, exercises."""

import json
import os
import re
import subprocess
import sys

import pytest
from tiny_books import code, markdown, notebook

from bnkit import paths
from bnkit.book import run_here
from bnkit.datasets import runtime

EXPLORABLE = """\
```{explorable} batch
:question: Who moves?
:alt: A batch & its values.

The caption, in *words*.
```"""
TRY = "```{try-it} backward\ndef mine(x, gamma, beta, dy, eps):\n    return dy\n```"


def build(folder, *cells, data=None):
    """One page of these cells, by Sphinx with our extension; what Sphinx says, and the page."""
    folder.mkdir(parents=True)
    (folder / "index.ipynb").write_text(json.dumps(notebook(markdown("t", "# A page"), *cells)))
    settings = 'extensions = ["myst_nb", "bnkit.book.extension"]\nnb_execution_mode = "off"\n'
    (folder / "conf.py").write_text(settings)
    (folder / "chapters").mkdir()  # a checkout, whose cache is empty
    environment = os.environ | {"BNKIT_ROOT": str(folder), "BNKIT_DATA": str(data or folder)}
    command = [sys.executable, "-m", "sphinx", "-q", str(folder), str(folder / "html")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    page = folder / "html" / "index.html"
    return done.stderr, page.read_text() if page.is_file() else ""


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A page with one of each, and no runtime at hand."""
    teaching = code("one", "import numpy as np", tags=["teaching"])
    return build(
        tmp_path_factory.mktemp("plain") / "book",
        markdown("e", EXPLORABLE),
        teaching,
        markdown("m", TRY),
    )


def test_an_explorable_is_complete_without_scripts(plain, tmp_path_factory):
    said, page = plain
    assert "WARNING" not in said
    figure = re.search(r"(?s)<figure.*?</figure>", page)[0]
    assert 'data-explorable="batch"' in figure
    assert '<p class="explorable-question">Who moves?</p>' in figure
    assert 'src="_static/explorables/batch.svg" alt="A batch &amp; its values."' in figure
    assert "<em>words</em>" in figure


def test_a_page_loads_the_scripts_of_its_own_explorables(plain):
    scripts = re.findall(r'src="_static/explorables/(\w+)\.js', plain[1])
    assert scripts == ["arithmetic", "kit", "batch"]


def test_a_site_without_the_runtime_has_no_buttons_and_is_otherwise_the_same(plain):
    assert "run-here" not in plain[1]
    assert "run/run.js" not in plain[1]
    assert "mine" in plain[1]  # the exercise is there, as code


def test_a_directive_that_is_wrong_says_what_is_allowed(tmp_path):
    wrong = {
        EXPLORABLE.replace("batch", "bach"): "no explorable 'bach'; there are: batch",
        EXPLORABLE.replace(":question: Who moves?\n", ""): "'batch' has no question",
        TRY.replace("backward", "forwards"): "no exercise 'forwards'; there are: forward,",
    }
    cells = [markdown(f"e-{place}", each) for place, each in enumerate(wrong)]
    said, _ = build(tmp_path / "book", *cells)
    for words in wrong.values():
        assert words in said


def test_a_runtime_that_is_here_in_part_stops_the_build_in_a_sentence(tmp_path):
    (tmp_path / "data" / "pyodide").mkdir(parents=True)
    (tmp_path / "data" / "pyodide" / "pyodide.js").write_text("")
    said, page = build(tmp_path / "book", data=tmp_path / "data")
    assert "pyodide is here in part: pyodide-lock.json, pyodide.asm.js" in said
    assert not page


@pytest.mark.skipif(not runtime.at_hand(), reason="the runtime is not at hand")
def test_with_the_runtime_the_cells_that_can_run_do(tmp_path):
    place = next(path for path in paths.data_folders(runtime.NAME) if path.is_dir())
    cells = (
        code("one", "import numpy as np", tags=["teaching"]),
        code("two", "import torch", tags=["teaching"]),
        code("three", "np.ones(3)", tags=["evidence"]),
        markdown("m", TRY),
    )
    said, page = build(tmp_path / "book", *cells, data=place.parent)
    assert "WARNING" not in said
    assert len(re.findall(r'class="[^"]*run-here', page)) == 2
    assert 'data-check="backward"' in page
    assert "_static/run/run.js" in page
    folder = tmp_path / "book" / "html" / run_here.FOLDER
    facts = re.search(r"own.manifest = (\{.*\});", (folder / "manifest.js").read_text())
    for name in json.loads(facts[1])["files"]:
        assert (folder / f"{name}.js").is_file()
    sources = re.search(r"own.sources = (\{.*\});", (folder / "sources.js").read_text())
    for name, text in json.loads(sources[1]).items():
        assert text == (paths.root() / name).read_text()
    assert "bnkit/reference.py" in sources[1]
    assert "bnkit/layers" not in sources[1]


@pytest.mark.parametrize(
    ("cells", "runs"),
    [
        (["import numpy as np", "from bnkit import reference, gradcheck", "x = 1"], [1, 1, 1]),
        (["import torch", "x = torch.ones(3)", "y = x + 1", "z = 2"], [0, 0, 0, 1]),
        (["from bnkit.layers import BatchNorm", "layer = BatchNorm(3)"], [0, 0]),
        (["from bnkit import layers, reference", "reference.forward"], [0, 0]),
        (["import torch\nx = 1", "x = 2", "x + 1"], [0, 1, 1]),
        (["import torch\nx = 1", "x = 2\nx + 1", "x + 1"], [0, 1, 1]),
        (["import torch\nx = 1", "x = x + 1", "def f(x):\n    return x", "x"], [0, 0, 1, 0]),
        (["import torch\nx = 1", "for x in []:\n    pass\nx"], [0, 0]),
        (["import torch\ndef f(x):\n    y = x", "y = [x for x in (1, 2)]\ny"], [0, 1]),
        (["%timeit 1", "import math, os.path"], [0, 1]),
        (["def f():\n    import torch\n    return 1", "f()"], [0, 0]),
        (["import matplotlib.pyplot as plt", "import scipy.stats"], [1, 0]),
        (["from bnkit.reference import forward", "import bnkit.whitening"], [1, 1]),
    ],
)
def test_a_cell_runs_if_all_that_it_uses_is_there(cells, runs):
    assert list(run_here.runnable(cells)) == [bool(each) for each in runs]
