"""What is committed and what only lies there: told by git, in checkouts of their own."""

import json
import os
import subprocess

import pytest
from git_folders import at_commit
from tiny_books import code, good, notebook

from bnkit.page import committed, parameters

FILE = "chapters/99-test.ipynb"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one chapter, not under git yet."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    root = tmp_path / "outer" / "book"
    monkeypatch.setenv("BNKIT_ROOT", str(root))
    (root / "chapters").mkdir(parents=True)
    save(root, good())
    return root


def save(root, content, **layout):
    (root / FILE).write_text(json.dumps(content, **layout))


def edited(cell, **changes):
    content = good()
    next(one for one in content["cells"] if one["id"] == cell).update(changes)
    return content


def test_what_lies_there_as_committed_does_not_differ(checkout):
    at_commit(checkout)
    assert committed.known(checkout)
    assert committed.chapter("99-test") == good()
    assert committed.differs(checkout, FILE) is None


def test_outputs_counts_and_layout_are_no_difference(checkout):
    """JupyterLab's saving rewrites a thousand lines of a chapter that nobody has edited."""
    at_commit(checkout)
    output = {"output_type": "stream", "name": "stdout", "text": ["1\n"]}
    content = edited("by-hand", outputs=[output], execution_count=3)
    for cell in content["cells"]:
        cell["source"] = cell["source"].splitlines(keepends=True)
        cell["metadata"] |= {"execution": {"iopub.execute_input": "now"}, "scrolled": True}
    content["metadata"]["language_info"]["version"] = "3.11.7"
    save(checkout, content, indent=3)
    assert committed.differs(checkout, FILE) is None


DIFFERENCES = {
    "edited: by-hand": edited("by-hand", source="np.arange(4).mean()"),
    "edited: figure-line": edited("figure-line", metadata={}),
    "edited: title": edited("title", cell_type="raw"),
    "new: another": notebook(*good()["cells"], code("another", "1")),
    "gone: solution-1": notebook(*good()["cells"][:-1]),
    "its cells are in another order": notebook(*good()["cells"][::-1]),
}


@pytest.mark.parametrize("told", DIFFERENCES)
def test_what_was_edited_is_named(checkout, told):
    at_commit(checkout)
    save(checkout, DIFFERENCES[told])
    assert committed.differs(checkout, FILE) == f"differs from what is committed ({told})"


def test_a_new_file_and_a_page_of_text(checkout):
    (checkout / "chapters" / "page.md").write_text("# One\n")
    git = at_commit(checkout)
    (checkout / "chapters" / "page.md").write_text("# Two\n")
    assert committed.differs(checkout, "chapters/page.md") == "differs from what is committed"
    (checkout / "chapters" / "new.md").write_text("# New\n")
    assert committed.differs(checkout, "chapters/new.md") == "is not committed"
    git("add", ".")
    assert committed.differs(checkout, "chapters/new.md") == "is not committed"
    git("commit", "--quiet", "--message", "second")
    assert committed.differs(checkout, "chapters/new.md") is None


@pytest.mark.parametrize("case", ["no git", "no repository", "no commit", "somebody else's"])
def test_elsewhere_nothing_is_known(checkout, case, monkeypatch):
    if case == "no git":
        at_commit(checkout)
        monkeypatch.setenv("PATH", "")
    elif case == "no commit":
        subprocess.run(["git", "-C", str(checkout), "init", "--quiet"], check=True)
    elif case == "somebody else's":
        at_commit(checkout, nested=True)
    assert not committed.known(checkout)
    assert committed.chapter("99-test") is None
    monkeypatch.setenv("BNKIT_ROOT", str(checkout / "chapters"))
    assert committed.chapter("99-test") is None


# The parameter card

RULES = {"seed": parameters.integer(0, 9), "quick": parameters.flag()}


def card(declaring, injected=None):
    """The parameters of a run in JupyterLab of a cell as it reads now, or of papermill's."""
    namespace, cells = {}, [declaring, *([f"# Parameters\n{injected}"] if injected else [])]
    exec("\n".join(cells), namespace)
    namespace["In"] = ["", *cells, "parameters.check(...)"]
    return parameters.check(namespace, chapter="99-test", **RULES)


AS_COMMITTED = "seed: int = 0  # a seed\nquick: bool = True  # a flag"


def test_an_edited_value_is_marked_and_its_command_makes_this_very_run(checkout):
    at_commit(checkout)
    p = card(AS_COMMITTED.replace("= 0", "= 7"))
    assert p.changed() == ("seed",)
    shown = p._repr_markdown_()
    assert shown.startswith("Changed: `seed`.")
    assert "| `seed` | **`7`** | `0` | 0 to 9 | a seed |" in shown
    assert "papermill chapters/99-test.ipynb out.ipynb -p seed 7\n" in shown
    assert 'make rerun CHAPTER=99-test PARAMS="seed=7"' in shown


def test_a_value_passed_and_one_edited_are_both_in_the_command(checkout):
    at_commit(checkout)
    p = card(AS_COMMITTED.replace("= 0", "= 7"), injected="quick = False")
    assert p.changed() == ("seed", "quick")
    assert "-p seed 7 -p quick False" in p._repr_markdown_()


def test_the_committed_value_passed_to_an_edited_cell_is_the_default(checkout):
    at_commit(checkout)
    p = card(AS_COMMITTED.replace("= 0", "= 7"), injected="seed = 0")
    assert p.changed() == ()
    assert "All parameters at their defaults." in p._repr_markdown_()


def test_without_git_the_cell_s_own_values_are_the_defaults(checkout):
    p = card(AS_COMMITTED.replace("= 0", "= 7"))
    assert p.changed() == ()
    assert "| `seed` | `7` | `7` |" in p._repr_markdown_()


@pytest.mark.parametrize("before", ["not JSON", "{}", json.dumps(notebook())])
def test_an_odd_commit_is_no_error(checkout, before):
    (checkout / FILE).write_text(before)
    at_commit(checkout)
    assert card(AS_COMMITTED).changed() == ()
