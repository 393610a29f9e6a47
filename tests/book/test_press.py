"""The press, on tiny books: what is published, what is refused, and what stays in place when
something fails.
"""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from git_folders import at_commit
from tiny_books import (
    EVIDENCE,
    INDEX,
    ROOT,
    TOLD,
    code,
    good,
    make_book,
    markdown,
    notebook,
    outside,
    press,
    short,
    tree,
)

from bnkit.book import compose, execute, gate, pages, rerun, site, stale, structure
from bnkit.book.chapter import explain
from bnkit.book.compose import normalise
from bnkit.book.gate import Chapter
from bnkit.book.layout import Book, PressError


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Book:
    """A tiny book that has been built."""
    book = make_book(tmp_path_factory.mktemp("published") / "book", {"01-good": good()})
    done = press(book, "build")
    assert done.returncode == 0, done.stdout + done.stderr
    return book


@pytest.fixture
def built(published, tmp_path) -> Book:
    """A copy of it, to be spoilt."""
    shutil.copytree(published.root.parent, tmp_path / "copy")
    return Book(tmp_path / "copy" / "book", tmp_path / "copy" / "bnkit")


# --- building -------------------------------------------------------------------------------------


def test_the_root_has_a_title_and_leads_to_the_first_page(published):
    page = (published.html / "index.html").read_text()
    assert "<title>Batch Normalization, Measured</title>" in page
    assert page.count("chapters/index.html") == 2


def test_a_link_to_a_page_has_a_preview(published):
    page = (published.html / "chapters" / "01-good.html").read_text()
    assert re.search('<meta property="og:title" content="A chapter"', page)
    assert re.search(
        '<meta (property="og:description"|name="description") content="[^"]{10,}', page
    )


def test_the_search_puts_chapters_before_the_code(published):
    used = (published.html / "_static" / "language_data.js").read_text()
    assert (published.package / "book" / "_static" / "scorer.js").read_text() in used


def test_a_page_shows_what_the_chapter_computed(published):
    page = (published.html / "chapters" / "01-good.html").read_text()
    assert "A third is 0.333" in page
    assert 'aria-label="A line that rises from left to right."' in page
    assert "All parameters at their defaults" in page  # the parameter card
    assert re.search(
        "a third is <[^>]+>0.33<", (published.html / "chapters" / "index.html").read_text()
    )
    assert "01-good.html" in (published.html / "chapters" / "this-build.html").read_text()


def test_a_page_shows_figures_in_both_layouts_and_in_the_tones_of_its_theme(published):
    page = (published.html / "chapters" / "01-good.html").read_text()
    drawn = re.findall(r'<svg class="(\w+)" role="img" aria-label="A line that rises', page)
    assert drawn == ["wide", "narrow"]
    assert "var(--figure-violet, #" in page
    assert 'href="../_static/figures.css' in page
    assert "--figure-violet: #" in (published.html / "_static" / "figures.css").read_text()
    assert "Fig. A.1" in page, "and not Fig. 1, as one of the paper is called"
    downloaded = (published.html / "_sources" / "chapters" / "01-good.ipynb").read_text()
    assert '"image/svg+xml"' in downloaded
    assert 'class=\\"drawing' not in downloaded


def test_a_page_draws_formulas_without_a_network_and_downloads_its_notebook(published):
    page = (published.html / "chapters" / "01-good.html").read_text()
    scripts = re.findall(r'<script[^>]+src="([^"]+)"', page)
    assert "../_static/mathjax/tex-svg-full.js" in scripts
    assert (published.html / "_static" / "mathjax" / "tex-svg-full.js").stat().st_size > 2_000_000
    assert not [script for script in scripts if "//" in script or "thebe" in script]
    assert "THEBE_JS_URL" not in page  # twice would be an error in the browser
    assert "tex-svg" not in (published.html / "chapters" / "this-build.html").read_text()
    assert re.search(r'href="../_sources/chapters/01-good.ipynb" download', page)


def test_without_scripts_a_page_says_why_its_formulas_are_tex(published):
    pages = {path.stem: path.read_text() for path in (published.html / "chapters").glob("*.html")}
    told = {
        name: re.findall(r"(?s)<noscript>(.*?)</noscript>", page) for name, page in pages.items()
    }
    (said,) = (one for one in told.pop("01-good") if "TeX" in one)
    assert "runs no scripts" in said
    assert not any("TeX" in one for ones in told.values() for one in ones), "no formulas there"


def test_evidence_folds_and_what_it_shows_stays(published):
    page = (published.html / "chapters" / "01-good.html").read_text()
    folds = re.findall(r'(?s)<details class="fold.*?</details>', page)
    labels = [re.search("<summary><span>(.*?)</span>", fold)[1] for fold in folds]
    assert labels == ["Parameters and set-up", "Evidence", "Read on"]  # the solution is inside
    assert "All parameters at their defaults" in folds[0]
    assert "figure line · report" in folds[1]
    assert "<img" not in folds[1]
    unfolded = re.sub(
        r"(?s)<details.*</details>", "", re.sub(r"(?s)<details.*?</details>", "", page)
    )
    assert "axes" not in unfolded
    assert "arange" in unfolded
    assert "assert" in page[page.index("Solution") :]


def test_a_citation_is_a_link_with_author_and_year(published):
    page = (published.html / "chapters" / "01-good.html").read_text()
    cited = r'(?s)as <span class="bibtex-citation"[^>]*>Author \(<a [^>]*>2015</a>\)'
    assert re.search(cited, page)


def test_just_the_code_of_a_page_is_a_download(published):
    page = (published.html / "chapters" / "01-good.html").read_text()
    address = re.search(r'href="(../_code/chapters/01-good.ipynb)"\s+download', page)[1]
    own = json.loads((published.html / "chapters" / address).read_text())
    assert ["".join(cell["source"]) for cell in own["cells"]] == [
        "# A chapter\n\n## By hand",
        "import numpy as np\n\nnp.arange(3).mean()",
    ]


def test_two_builds_give_the_same_bytes(published, tmp_path):
    """In another folder, with another seed of Python's hashes, by a user who has settings of his
    own."""
    other = make_book(tmp_path / "elsewhere", {"01-good": good()})
    (tmp_path / "matplotlibrc").write_text("figure.facecolor: black\n")
    done = press(
        other,
        "build",
        PYTHONHASHSEED="7",
        TZ="Asia/Seoul",
        MATPLOTLIBRC=str(tmp_path),
        OMP_NUM_THREADS="2",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = tree(published.html), tree(other.html)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert not [name for name, content in second.items() if str(tmp_path).encode() in content]


def test_nothing_is_done_where_nothing_has_changed(built):
    done = press(built, "build")
    assert done.returncode == 0
    assert done.stdout.startswith("nothing to do")


def test_uncommitted_chapters_are_refused_and_a_draft_says_what_it_is(built):
    """Edited and saved in JupyterLab; a page that was deleted comes back, too."""
    at_commit(built.root)
    (built.html / "chapters" / "bibliography.html").unlink(missing_ok=True)
    (built.html / "chapters" / "01-good.html").unlink()
    path = built.root / "chapters" / "01-good.ipynb"
    path.write_text(path.read_text().replace("seed: int = 0", "seed: int = 7"))
    refused = press(built, "build")
    assert refused.returncode == 1
    told = "chapters/01-good differs from what is committed (edited: parameters)"
    assert told in refused.stderr
    assert "make book DRAFT=1" in refused.stderr
    done = press(built, "build", "--draft")
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("01-good", "index", "this-build"):
        shown = (built.html / "chapters" / f"{page}.html").read_text()
        assert "Draft: chapters of this site may differ" in shown
    assert "this is a draft" in shown
    assert "Changed: <code" in (built.html / "chapters" / "01-good.html").read_text()


def test_a_page_that_is_gone_is_missed(published, tmp_path):
    shutil.copytree(published.html, tmp_path / "html")
    before = site.inventory(tmp_path / "html")
    assert before == site.inventory(published.html)
    page = tmp_path / "html" / "chapters" / "01-good.html"
    page.write_text(page.read_text()[:-1])
    assert site.inventory(tmp_path / "html") != before
    page.unlink()
    assert site.inventory(tmp_path / "html") != before


def test_a_warning_fails_the_build_and_the_last_good_site_stays(built):
    before = tree(built.html)
    with (built.root / "chapters" / "index.md").open("a") as page:
        page.write("\n[nowhere](99-nowhere.ipynb)\n")
    done = press(built, "build")
    assert done.returncode == 1
    assert "WARNING" in done.stderr
    assert "99-nowhere" in done.stderr
    assert "last good site" in done.stderr
    assert tree(built.html) == before


def test_every_faulty_chapter_is_named_and_the_good_one_is_kept(tmp_path):
    faults = notebook(
        markdown("title", "# A chapter\n\nA lead."),
        code("warns", "import warnings\nwarnings.warn('mind the gap')"),
        code("shows", "from bnkit import plots\nfrom bnkit.page import prose\nplots.figure()[0]"),
        code("glues", "prose.glue('x', 1)\nprose.glue('x', 2)"),
        code("tells", "print('saved to /home/somebody/figure.png')"),
    )
    fails = short("secret = 41\nassert secret == 42, 'the answer is 42'")
    book = make_book(
        tmp_path / "book", {"01-good": short("1 + 1"), "02-fails": fails, "03-faulty": faults}
    )
    done = press(book, "build")
    assert done.returncode == 1
    assert not book.html.exists()
    for said in (
        r"chapters/02-fails failed in cell 'the-cell':\n  \| secret = 41\n(.*\n)*.*AssertionError: the answer is 42",
        r"chapters/03-faulty, cell 'warns': wrote to stderr: .*(.*\n)*.*mind the gap",
        r"chapters/03-faulty, cell 'shows': shows an image without mystnb.figure.name",
        r"chapters/03-faulty: glues 'x' 2 times",
        r"chapters/03-faulty, cell 'tells': shows an absolute path: /home/somebody/figure.png",
    ):
        assert re.search(said, done.stderr), said
    assert "01-good" not in done.stderr
    assert (book.executed / "chapters" / "01-good.json").is_file()
    assert (book.failed / "chapters" / "02-fails.ipynb").is_file()


def test_a_cell_that_hangs_fails(tmp_path):
    book = make_book(
        tmp_path / "book", {"01-good": short("while True:\n    pass")}, index="# A book\n"
    )
    done = press(book, "build", BNKIT_CELL_SECONDS="1")
    assert done.returncode == 1
    assert "cell 'the-cell'" in done.stderr
    assert "ran for more than 1 seconds" in done.stderr


def test_a_full_disk_publishes_nothing(built):
    before = tree(built.html)
    (built.root / "chapters" / "index.md").write_text(f"{INDEX}\nMore.\n")
    done = press(built, "build", limit=10_000)  # no file may grow larger: what a full disk does
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert tree(built.html) == before


def test_a_build_folder_that_cannot_be_written_is_named(tmp_path):
    book = make_book(tmp_path / "book", {"01-good": good()})
    book.build.write_text("in the way")
    done = press(book, "build")
    assert done.returncode == 1
    assert f"{book.build} cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_of_two_builds_at_once_one_waits(built):
    command = [sys.executable, "-m", "bnkit.book", "build"]
    with FileLock(built.build / ".lock"):
        second = subprocess.Popen(
            command, cwd=built.root, env=outside(built), stdout=subprocess.PIPE, text=True
        )
        assert "waiting" in second.stdout.readline()
        assert second.poll() is None
    assert second.communicate(timeout=60)[0].startswith("nothing to do")
    assert second.returncode == 0


def test_a_swap_cut_short_is_undone(tmp_path):
    html = tmp_path / "html"
    for name in ("html", "fresh"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(name)
    with pytest.raises(FileNotFoundError):
        site.publish(tmp_path / "nothing", html)
    assert (html / "index.html").read_text() == "html", "a failed swap leaves the old site"
    os.rename(html, tmp_path / "html.last")  # killed between the two steps
    site.recover(html)
    assert (html / "index.html").read_text() == "html"
    (tmp_path / "fresh").chmod(0o700)  # by somebody with a umask of 077
    (tmp_path / "fresh" / "index.html").chmod(0o600)
    site.publish(tmp_path / "fresh", html)
    assert (html / "index.html").read_text() == "fresh"
    assert (html.stat().st_mode & 0o777, (html / "index.html").stat().st_mode & 0o777) == (
        0o755,
        0o644,
    ), "whoever serves it must be able to read it"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["html"]


def test_of_all_that_sphinx_says_the_problems_are_told(tmp_path):
    noise = "reading sources... [ 50%] a\nbuild finished"
    warning = f"{tmp_path}/a.md:3: WARNING: no such thing"
    assert (
        site.complaints(f"{noise}\n\x1b[31m{warning}\x1b[0m\n{noise}", tmp_path)
        == "  a.md:3: WARNING: no such thing"
    )
    assert (
        site.complaints(f"{noise}\nSphinx error:\nno such provider\n", tmp_path)
        == "  Sphinx error:\n  no such provider"
    )
    traceback = 'Traceback (most recent call last):\n  File "a.py", line 3, in b'
    assert (
        site.complaints(f"{noise}\nSphinx error:\nno such page\n{traceback}\n", tmp_path)
        == "  Sphinx error:\n  no such page"
    )
    assert "it broke" in site.complaints(f"{noise}\nit broke", tmp_path)


# --- running again --------------------------------------------------------------------------------


def test_a_rerun_gives_a_notebook_and_a_page(built):
    done = press(built, "rerun", "01-good", "seed=3 quick=false")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = built.build / "reruns" / "01-good--seed-3-quick-False"
    cells = json.loads((folder / "01-good.ipynb").read_text())["cells"]
    injected = [
        "".join(each["source"])
        for each in cells
        if "injected-parameters" in each["metadata"].get("tags", [])
    ]
    assert injected == ["# Parameters\nseed = 3\nquick = False\n"]
    page = (folder / "html" / "chapters" / "01-good.html").read_text()
    assert "Changed: <code" in page
    assert "# Parameters" not in page, "the card tells it, the injected cell is not shown"
    assert str(folder / "html" / "chapters" / "01-good.html") in done.stdout
    link = re.search(r'href="([^"]*chapters/index.html)"', page)[1]
    assert (folder / "html" / "chapters" / link).resolve() == built.html / "chapters" / "index.html"


@pytest.mark.parametrize(
    ("chapter", "given", "said"),
    [
        ("01-good", "sead=3", "sead: unknown; did you mean seed?"),
        ("01-good", "seed=30", "seed: 30 is out of range, which is 0 to 9"),
        ("01-good", "seed=1.5", "seed: '1.5' is text, not a whole number"),
        ("01-good", "quick=maybe", "quick: 'maybe' is text"),
        ("01-good", "seed", "'seed' is no parameter; write NAME=VALUE"),
        ("01-good", "seed=1 seed=2", "seed is given twice"),
        ("99-bad", "seed=1", "there is no chapter '99-bad'; the chapters are: 01-good"),
    ],
)
def test_a_rerun_that_cannot_work_is_refused_before_it_starts(published, chapter, given, said):
    with pytest.raises(PressError, match=re.escape(said)):
        rerun.rerun(published, chapter, given)
    assert not (published.build / "reruns").exists()


def test_reruns_with_other_parameters_lie_in_other_folders():
    values = [
        {},
        {"a": 1},
        {"a": 2},
        {"a": "x/y"},
        {"a": "x-y"},
        {"a": "x" * 200},
        {"a": "x" * 201},
    ]
    assert len({rerun.folder_name("chapters/01-good", each) for each in values}) == len(values)
    assert all(
        re.fullmatch(r"[\w.-]{1,120}", rerun.folder_name("chapters/01-good", each))
        for each in values
    )


def test_the_press_can_be_asked_for_help():
    done = subprocess.run(
        [sys.executable, "-m", "bnkit.book", "--help"], capture_output=True, text=True, check=True
    )
    assert all(word in done.stdout for word in ("build", "rerun", "check", "strip"))


# --- keys -----------------------------------------------------------------------------------------


@pytest.fixture
def keyed(tmp_path, monkeypatch) -> Book:
    """A book with a package of its own, in which one module reaches another."""
    package = tmp_path / "bnkit"
    for name, source in {
        "__init__.py": "",
        "paths.py": "",
        "page/prose.py": "from bnkit import paths",
        "runs/records.py": "import json",
        "datasets/arrays.py": "",
        "layers/batch_norm.py": "",
        "plots/__init__.py": "",
        "plots/mnist.py": "def f():\n    from bnkit.runs.records import load",
        "plots/other.py": "",
        "house.mplstyle": "",
        "book/execute.py": "",
        "book/worker.py": "",
        "book/compose.py": "",
    }.items():
        (package / name).parent.mkdir(exist_ok=True, parents=True)
        (package / name).write_text(source)
    chapters = {
        "01-prose": short("from bnkit.page import prose"),
        "02-figure": short("from bnkit.plots import mnist"),
        "03-data": short("import bnkit.datasets.arrays"),
        "04-magic": short("%load_ext nothing"),
    }
    monkeypatch.setenv("BNKIT_ROOT", str(tmp_path / "book"))
    monkeypatch.delenv("BNKIT_DATA", raising=False)
    monkeypatch.delenv("BNKIT_RUNS", raising=False)
    return make_book(tmp_path / "book", chapters)


@pytest.mark.parametrize(
    ("changed", "chapters"),
    [
        ("bnkit/page/prose.py", {"01-prose", "04-magic"}),
        ("bnkit/paths.py", {"01-prose", "04-magic"}),
        ("bnkit/runs/records.py", {"02-figure", "04-magic"}),
        ("bnkit/plots/__init__.py", {"02-figure", "04-magic"}),
        ("bnkit/plots/other.py", {"04-magic"}),
        ("bnkit/layers/batch_norm.py", {"04-magic"}),
        ("bnkit/__init__.py", {"01-prose", "02-figure", "03-data", "04-magic"}),
        ("bnkit/house.mplstyle", {"01-prose", "02-figure", "03-data", "04-magic"}),
        ("bnkit/book/execute.py", {"01-prose", "02-figure", "03-data", "04-magic"}),
        ("bnkit/book/compose.py", {"04-magic"}),
        ("book/requirements.lock", {"01-prose", "02-figure", "03-data", "04-magic"}),
        ("book/data/paper/curves.json", {"01-prose", "02-figure", "03-data", "04-magic"}),
        ("book/data/runs/a/b/seed-0.json", {"02-figure", "04-magic"}),
        ("book/data/cache/mnist/images.gz", {"03-data", "04-magic"}),
        ("book/data/cache/checkpoints/x/y.npz", set()),
        ("book/chapters/01-prose.ipynb", {"01-prose"}),
        ("book/chapters/index.md", set()),
        ("book/_build/anything", set()),
    ],
)
def test_a_change_makes_those_chapters_stale_that_depend_on_it(keyed, changed, chapters):
    path = keyed.root.parent / changed

    def every() -> dict[str, str]:
        return {document: stale.execution_key(keyed, document) for document in keyed.notebooks()}

    before = every()
    assert before == every()
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.read_text() if path.exists() else ""
    path.write_text(f"{old}\n")
    after = every()
    differ = {name.removeprefix("chapters/") for name in before if before[name] != after[name]}
    assert differ == chapters


@pytest.mark.parametrize(
    "changed",
    ["bnkit/layers/batch_norm.py", "book/chapters/index.md", "book/_config.yml", "book/_toc.yml"],
)
def test_the_site_depends_on_pages_settings_and_sources(keyed, changed):
    before = stale.site_key(keyed, ["a"])
    assert stale.site_key(keyed, ["b"]) != before
    with (keyed.root.parent / changed).open("a") as file:
        file.write("\n")
    assert stale.site_key(keyed, ["a"]) != before


def test_the_site_depends_on_the_addresses_it_is_built_for(keyed, monkeypatch):
    before = stale.site_key(keyed, [])
    monkeypatch.setenv("BNKIT_REPOSITORY_URL", "https://example.org/a/b")
    assert stale.site_key(keyed, []) != before


def test_a_result_that_somebody_changed_is_made_again(built, monkeypatch):
    monkeypatch.setenv("BNKIT_ROOT", str(built.root))
    assert execute.out_of_date(built) == []
    with (built.executed / "chapters" / "01-good.ipynb").open("a") as file:
        file.write(" ")
    assert execute.out_of_date(built) == ["chapters/01-good"]


# --- the gate -------------------------------------------------------------------------------------


@pytest.fixture
def chapter(published) -> Chapter:
    """The executed good chapter, as a copy to spoil."""
    read = gate.read(
        "chapters/01-good",
        published.file("chapters/01-good"),
        published.executed / "chapters/01-good.ipynb",
    )
    return copy.deepcopy(read)


def cell(chapter: Chapter, name: str) -> dict:
    return next(each for each in chapter.executed["cells"] if each["id"] == name)


def stream(text: str, name: str = "stdout") -> dict:
    return {"output_type": "stream", "name": name, "text": text}


def shown(**data: str) -> dict:
    return {
        "output_type": "display_data",
        "metadata": {},
        "data": {k.replace("_", "/", 1): v for k, v in data.items()},
    }


def print_in_report(text: str):
    return lambda chapter: cell(chapter, "report")["outputs"].append(stream(text))


MUTANTS = {
    "an error": (
        lambda c: cell(c, "report")["outputs"].append(
            {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
        ),
        "raised ValueError: no",
    ),
    "papermill's mark": (
        lambda c: c.executed["cells"].insert(
            0, code("mark", "", tags=["papermill-error-cell-tag"])
        ),
        "mark of a failed run",
    ),
    "another order": (
        lambda c: cell(c, "report").update(execution_count=9),
        "code cell 4 but ran as number 9",
    ),
    "a cell that never ran": (
        lambda c: cell(c, "report").update(execution_count=None),
        "ran as number None",
    ),
    "another source": (
        lambda c: cell(c, "report").update(source="1"),
        "differs from the committed notebook",
    ),
    "a missing cell": (lambda c: c.executed["cells"].pop(), "has other cells"),
    "other parameters": (
        lambda c: c.executed["cells"].insert(
            2, code("x", "seed = 1", tags=["injected-parameters"])
        ),
        "other parameters",
    ),
    "stderr": (
        lambda c: cell(c, "report")["outputs"].append(stream("careful", "stderr")),
        "stderr: careful",
    ),
    "no alt text": (
        lambda c: cell(c, "figure-line")["metadata"]["mystnb"].pop("image"),
        "without mystnb.image.alt",
    ),
    "no name": (
        lambda c: cell(c, "figure-line")["metadata"]["mystnb"]["figure"].pop("name"),
        "without mystnb.figure.name",
    ),
    "a home folder": (print_in_report("in /Users/x/book"), "absolute path: /Users/x/book"),
    "a drive": (print_in_report(r"in C:\Users"), "absolute path"),
    "an address in memory": (print_in_report("<object at 0x7f01a2b3c4d5>"), "address in memory"),
    "an address in the network": (
        print_in_report("from https://example.org/x"),
        "address in the network",
    ),
    "too much": (print_in_report("x" * 2_100_000), "outputs of 2.1 MB"),
    "a widget": (
        lambda c: cell(c, "report")["outputs"].append(
            shown(**{"application_vnd.jupyter.widget-view+json": "{}"})
        ),
        "a widget",
    ),
    "a script": (
        lambda c: cell(c, "report")["outputs"].append(shown(text_html="<script>x</script>")),
        "a script",
    ),
    "a number glued twice": (
        lambda c: cell(c, "report")["outputs"].append(
            {
                "output_type": "display_data",
                "data": {},
                "metadata": {"scrapbook": {"name": "third"}},
            }
        ),
        "glues 'third' 2 times",
    ),
}


def test_the_good_chapter_passes_the_gate(chapter):
    assert gate.check([chapter], {"chapters/index": INDEX}) == []


@pytest.mark.parametrize("name", MUTANTS)
def test_the_gate_refuses(chapter, name):
    spoil, said = MUTANTS[name]
    spoil(chapter)
    findings = gate.check([chapter], {})
    assert any(said in str(each) for each in findings), findings


@pytest.mark.parametrize(
    "harmless",
    [
        "1/2/3 and/or x/y",
        "/chapters/01-good.ipynb::third",
        "http://www.w3.org/2000/svg",
        "-p seed 3",
        "~ 3 / 4",
        "</p></div>",
    ],
)
def test_the_gate_lets_pass(chapter, harmless):
    print_in_report(harmless)(chapter)
    assert gate.check([chapter], {}) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{glue:text}`third`", "write it from the root"),
        ("{glue:text}`01-good.ipynb::third:.2f`", "write it from the root"),
        ("{glue:text}`/chapters/01-good.ipynb::fourth:.2f`", "which no chapter glues"),
        ("```{glue:figure} third\n```", "write it from the root"),
    ],
)
def test_a_quoted_number_must_be_found(chapter, text, said):
    findings = gate.check([chapter], {"chapters/index": text})
    assert len(findings) == 1
    assert said in str(findings[0])


def test_a_figure_name_belongs_to_one_figure_of_the_book(chapter):
    twin = chapter._replace(document="chapters/02-twin")
    assert "names its figure 'fig-line' as chapters/01-good does" in str(
        gate.check([chapter, twin], {})[0]
    )


# --- normalising, composing -----------------------------------------------------------------------


def test_normalising_keeps_what_the_chapter_says_and_drops_how_it_ran(chapter):
    run = chapter.executed
    run["cells"].insert(2, code("9f8e7d6c", "# Parameters\nseed = 1", tags=["injected-parameters"]))
    run["cells"][-1]["outputs"].append(stream("\r 10%|#         |", "stderr"))
    plain = normalise(run)
    assert "papermill" not in plain["metadata"]
    assert not [
        each for each in plain["cells"] if {"papermill", "execution"} & each["metadata"].keys()
    ]
    assert "version" not in plain["metadata"]["language_info"]
    injected = plain["cells"][2]
    assert (injected["id"], "remove-cell" in injected["metadata"]["tags"]) == (
        "injected-parameters",
        True,
    )
    assert plain["cells"][-1]["outputs"] == run["cells"][-1]["outputs"][:-1], (
        "only the progress bar is gone"
    )
    figure = next(each for each in plain["cells"] if each["id"] == "figure-line")
    assert figure["metadata"] == TOLD | EVIDENCE | {"bnkit": {"id": "figure-line"}}
    assert figure["outputs"] == cell(chapter, "figure-line")["outputs"]


def test_buttons_lead_to_the_repository_only_where_one_is_known(published, monkeypatch):
    monkeypatch.delenv("BNKIT_REPOSITORY_URL", raising=False)
    monkeypatch.delenv("BNKIT_BASE_URL", raising=False)
    plain = compose.settings(published)
    assert "repository" not in plain
    assert "baseurl" not in plain["html"]
    monkeypatch.setenv("BNKIT_REPOSITORY_URL", "https://github.com/a/book.git")
    monkeypatch.setenv("BNKIT_BASE_URL", "https://a.example.org/book")
    known = compose.settings(published)
    assert known["repository"] == {
        "path_to_book": "",
        "branch": "main",
        "url": "https://github.com/a/book",
    }
    assert known["html"]["baseurl"] == "https://a.example.org/book/"
    assert "sphinx_sitemap" in known["sphinx"]["extra_extensions"]
    assert "sphinx_sitemap" not in plain["sphinx"]["extra_extensions"]
    monkeypatch.setenv("BNKIT_REPOSITORY_URL", "https://git.example.org/a/book")
    elsewhere = compose.settings(published)
    assert elsewhere["repository"]["url"] == "https://git.example.org/a/book"
    assert elsewhere["sphinx"]["config"]["html_theme_options"]["repository_provider"] == "github"
    monkeypatch.setenv("BNKIT_REPOSITORY_URL", "example.org/a/book")
    with pytest.raises(PressError, match="must be an address that begins with https://"):
        compose.settings(published)
    monkeypatch.setenv("BNKIT_REPOSITORY_URL", "https://github.com/a")
    with pytest.raises(PressError, match="must end with owner and name"):
        compose.settings(published)


def test_the_page_on_this_build_names_what_was_not_executed(tmp_path):
    from bnkit.book import this_build

    book = make_book(tmp_path / "book", {"01-good": good()})
    assert "No chapter was left out." in this_build.page(book)
    (book.root / "chapters" / "02-draft.ipynb").write_text(json.dumps(good()))
    page = this_build.page(book)
    assert "no git checkout" in page
    assert "this is a draft" in this_build.page(replace(book, draft=True))
    assert "Not executed, and not part of the site: 02-draft." in page
    assert "`seed=0`, `quick=True`" in page


def test_a_missing_file_of_the_reading_order_is_named(tmp_path):
    book = make_book(tmp_path / "book", {"01-good": good()})
    (book.root / "chapters" / "01-good.ipynb").unlink()
    with pytest.raises(PressError, match="lists chapters/01-good, but there is neither"):
        book.notebooks()


def test_a_kernel_that_never_started_is_told_by_its_complaint(tmp_path):
    assert explain(tmp_path / "nothing.ipynb", "no such thing\n") == "  no such thing"


def test_a_cell_that_fails_names_its_claims(tmp_path):
    failed = code("ratios", "assert x > 2", tags=["hide-input", "claim:C55", "claim:C69"])
    failed["outputs"] = [
        {
            "output_type": "error",
            "ename": "AssertionError",
            "evalue": "",
            "traceback": ["AssertionError"],
        }
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps(notebook(failed)))
    said = explain(tmp_path / "a.ipynb", "")
    assert said == "cell 'ratios', which bears out C55, C69:\n  | assert x > 2\n  AssertionError"


# --- built pages ----------------------------------------------------------------------------------

PAGE = """<html><head><link rel="stylesheet" href="a.css"><link rel="canonical" href="https://example.org/"></head>
<body><h1>menu</h1><article><h1 id="t">T</h1><h2 id="s">S</h2><img src="i.png" alt="An image.">
<a href="#s">s</a><a href="https://example.org">elsewhere</a><script>var address = "https://example.org/x.js"</script>
</article></body></html>"""


def findings(tmp_path: Path, page: str, css: str = "body { background: url(i.png) }") -> list[str]:
    (tmp_path / "a.css").write_text(css)
    (tmp_path / "p.html").write_text(page)
    return [finding.problem for finding in pages.check(tmp_path, ["p"])]


def test_a_good_page_passes(tmp_path):
    assert findings(tmp_path, PAGE) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "<h2 ",
            '<script src="https://example.org/x.js"></script><h2 ',
            "loads from another host: <script src",
        ),
        (
            "<h2 ",
            '<script src="//example.org/x.js"></script><h2 ',
            "loads from another host: <script src",
        ),
        ('href="a.css"', 'href="https://example.org/a.css"', "loads from another host: <link href"),
        ('src="i.png"', 'src="http://example.org/i.png"', "loads from another host: <img src"),
        ('alt="An image."', "", "without alt text"),
        ('id="s"', 'id="t"', "has the id 't' 2 times"),
        ("h2", "h3", "leaves out a level"),
        ("h2", "h1", "has 2 titles"),
        ('href="#s"', 'href="#nowhere"', "a place that is not there: #nowhere"),
        ('href="#s"', 'href="q.html"', "what is not there: q.html"),
        ("<h2 ", '<p class="system-message"></p><h2 ', "could not make sense of"),
    ],
)
def test_a_bad_page_is_refused(tmp_path, old, new, said):
    found = findings(tmp_path, PAGE.replace(old, new))
    assert any(said in each for each in found), found


@pytest.mark.parametrize(
    "css", ['@import "https://example.org/a.css";', "a { src: url( '//example.org/f.woff') }"]
)
def test_a_style_sheet_loads_nothing_from_elsewhere(tmp_path, css):
    assert ["loads from another host" in each for each in findings(tmp_path, PAGE, css)] == [True]


def test_a_page_that_was_not_built_is_missed(tmp_path):
    assert [str(each) for each in pages.check(tmp_path, ["chapters/x"])] == [
        "chapters/x: has no page"
    ]


# --- the lock -------------------------------------------------------------------------------------


def test_the_lock_is_plain_and_what_is_installed():
    assert list(structure.check_lock(ROOT / "requirements.lock")) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("numpy==1.0.0", "numpy is"),
        ("numpy>=2", "is not NAME==VERSION"),
        ("torch==2.13.0+cpu", "is not NAME==VERSION"),
        ("numpy==2.4.6 --hash=sha256:00", "is not NAME==VERSION"),
        ("numpy @ https://example.org/numpy.whl", "is not NAME==VERSION"),
        ("jupyter-book==2.0.0", "jupyter-book must be 1.0.4.post1, not 2.0.0"),
        ("no-such-package==1.0", "no-such-package is missing"),
        ('no-such-package==1.0 ; python_version > "3"', "no-such-package is missing"),
        ("no-such-package==1.0 ; whenever", "is not NAME==VERSION"),
    ],
)
def test_a_lock_that_is_not_plain_is_refused(tmp_path, line, said):
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"# comment\njupyter-book==1.0.4.post1\ntorch==2.13.0\n{line}\n")
    assert any(said in each for each in structure.check_lock(lock))


def test_a_pin_for_another_system_is_not_missed(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        'jupyter-book==1.0.4.post1\ntorch==2.13.0\nno-such-package==1.0 ; platform_system == "Plan 9"\n'
    )
    assert list(structure.check_lock(lock)) == []


def test_figures_keep_their_shape_where_the_page_is_narrower(published):
    """The builder writes width and height into the tag; where the width must shrink, the height may
    not stay."""
    sheet = (published.html / "_static" / "book.css").read_text()
    rule = next(
        body
        for selectors, body in re.findall(r"([^{}]+)\{([^}]*)\}", sheet)
        if "figure img" in selectors
    )
    assert "height: auto !important" in rule
    assert "max-width: 100%" in rule
