"""What a chapter cannot run with is refused, under papermill, in JupyterLab and without a kernel
alike.
"""

import builtins
import copy
import json
import pickle
import subprocess
import sys

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from bnkit.page import parameters

DECLARING = """
dataset: str = "digits"  # what to train on
steps: int = 50_000  # optimisation steps
learning_rate: float = 0.1  # step size of gradient descent
quick: bool = False  # a tenth of the work
""".strip()

CHECKING = """
from bnkit.page import parameters

p = parameters.check(
    globals(),
    chapter="99-test",
    dataset=parameters.choice("digits", "mnist"),
    steps=parameters.integer(1, 200_000),
    learning_rate=parameters.number(0, 10, low_open=True),
    quick=parameters.flag(),
)
p
""".strip()

DEFAULTS = {"dataset": "digits", "steps": 50_000, "learning_rate": 0.1, "quick": False}


def chapter(folder, declaring=DECLARING, checking=CHECKING, after="ran = True"):
    """A chapter in small: a title, the two cells, and one more that must not run when they fail."""
    code = nbformat.v4.new_code_cell
    cells = [
        nbformat.v4.new_markdown_cell("# Test"),
        code(declaring, metadata={"tags": ["parameters"]}),
    ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
    }
    notebook = nbformat.v4.new_notebook(
        cells=[*cells, code(checking), code(after)], metadata=metadata
    )
    path = folder / "99-test.ipynb"
    nbformat.write(notebook, path)
    return path


# Rules, each with what it must refuse

BAD = [
    ("steps", -1, "-1 is out of range, which is 1 to 200,000"),
    ("steps", 0, "0 is out of range"),
    ("steps", 200_001, "200001 is out of range"),
    ("steps", 5000.0, "5000.0 is a decimal number; write 5000"),
    ("steps", 0.5, "0.5 is a decimal number, not a whole number"),
    ("steps", True, "True is a truth value, not a whole number"),
    ("steps", "007", "'007' is text, not a whole number"),
    ("steps", None, "None is nothing, not a whole number"),
    ("steps", [1, 2], "[1, 2] is a list, not a whole number"),
    ("steps", float("inf"), "inf is a decimal number"),
    ("learning_rate", 0, "0 is out of range, which is above 0, up to 10"),
    ("learning_rate", 10.1, "10.1 is out of range"),
    ("learning_rate", float("nan"), "nan is not finite"),
    ("learning_rate", float("-inf"), "-inf is not finite"),
    ("learning_rate", "fast", "'fast' is text, not a number"),
    ("learning_rate", True, "True is a truth value, not a number"),
    ("dataset", "imagenet21k", "'imagenet21k' is none of digits, mnist"),
    ("dataset", "minst", "did you mean mnist?"),
    ("dataset", 7, "7 is none of digits, mnist"),
    (
        "quick",
        "false",
        "'false' is text; write -p quick True or -p quick False (or -y \"quick: true\")",
    ),
    ("quick", "true", "'true' is text; write -p quick"),
    ("quick", 0, "0 is a whole number; write -p quick"),
]


@pytest.mark.parametrize(("name", "value", "complaint"), BAD)
def test_a_bad_value_is_refused_with_what_is_allowed(tmp_path, name, value, complaint):
    with pytest.raises(parameters.ParameterError) as error:
        parameters.dry_run(chapter(tmp_path), {name: value})
    message = str(error.value)
    assert f"{name}: {complaint}" in message or complaint in message.splitlines()[1]
    # the title and this one problem
    assert len(message.split("What is allowed:")[0].splitlines()) == 2
    assert (
        "  steps          int    50000    1 to 200,000       optimisation steps"
        in message.splitlines()
    )


@given(
    dataset=st.sampled_from(["digits", "mnist"]),
    steps=st.integers(1, 200_000),
    learning_rate=st.floats(0, 10, exclude_min=True) | st.integers(1, 10),
    quick=st.booleans(),
)
def test_every_allowed_value_comes_back(**values):
    rules = {
        "dataset": parameters.choice("digits", "mnist"),
        "steps": parameters.integer(1, 200_000),
        "learning_rate": parameters.number(0, 10, low_open=True),
        "quick": parameters.flag(),
    }
    p = parameters.check(values, **rules)
    assert dict(p) == values
    assert [type(value) for value in p.values()] == [str, int, float, bool]
    assert (p.dataset, p.steps, p.learning_rate, p.quick) == tuple(values.values())


def test_choices_are_told_apart_by_type():
    rule = parameters.choice(1, 2)
    assert rule.read(1) == 1
    for value in (True, 1.0, "1"):
        with pytest.raises(ValueError, match="none of 1, 2"):
            rule.read(value)


# One message for everything that is wrong


def test_all_problems_stand_in_one_message(tmp_path):
    with pytest.raises(parameters.ParameterError) as error:
        parameters.dry_run(chapter(tmp_path), {"stepz": 3, "steps": 0, "quick": "no"})
    assert str(error.value) == (
        "99-test cannot run with these parameters:\n"
        "  stepz: unknown; did you mean steps?\n"
        "  steps: 0 is out of range, which is 1 to 200,000\n"
        "  quick: 'no' is text; write -p quick True or -p quick False (or -y \"quick: true\")\n"
        "What is allowed:\n"
        "  name           type   default  allowed            meaning\n"
        "  dataset        str    digits   digits, mnist      what to train on\n"
        "  steps          int    50000    1 to 200,000       optimisation steps\n"
        "  learning_rate  float  0.1      above 0, up to 10  step size of gradient descent\n"
        "  quick          bool   False    True, False        a tenth of the work"
    )


@pytest.mark.parametrize(
    ("declaring", "complaint"),
    [
        (
            DECLARING + "\nextra: int = 1  # nobody reads it",
            "extra: stands in the parameter cell but has no rule",
        ),
        (
            DECLARING.replace("steps", "stepz"),
            "steps: has a rule but does not stand in the parameter cell",
        ),
        (
            DECLARING.replace("steps: int", "steps: float"),
            "steps: declared as float, but its rule wants int",
        ),
        (DECLARING.replace("50_000", "0"), "steps: 0 is out of range"),
        (
            DECLARING + "\nhalf = steps // 2",
            "line 5 of the parameter cell, 'half = steps // 2': only lines like",
        ),
        (DECLARING + "\nimport os", "'import os': only lines like"),
        (DECLARING + "\na, b = 1, 2", "only lines like"),
    ],
)
def test_a_chapter_that_is_itself_wrong_is_refused(tmp_path, declaring, complaint):
    with pytest.raises(parameters.ParameterError) as error:
        parameters.dry_run(chapter(tmp_path, declaring), {})
    assert complaint in str(error.value)


# Without a kernel


def test_a_dry_run_gives_what_the_chapter_will_get(tmp_path):
    path = chapter(tmp_path, after="raise RuntimeError('a later cell ran')")
    assert dict(parameters.dry_run(path, {})) == DEFAULTS
    assert dict(parameters.dry_run(path, {"steps": 3})) == DEFAULTS | {"steps": 3}


@pytest.mark.parametrize("name", ["class", "learning-rate", "In", "parameters", ""])
def test_a_dry_run_refuses_odd_names(tmp_path, name):
    with pytest.raises(
        parameters.ParameterError, match=f"cannot name a parameter: '{name}'|{name}: unknown"
    ):
        parameters.dry_run(chapter(tmp_path), {name: 1})


def test_a_dry_run_of_a_chapter_without_parameters(tmp_path):
    path = tmp_path / "07-plain.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), path)
    assert dict(parameters.dry_run(path, {})) == {}
    with pytest.raises(
        parameters.ParameterError, match="07-plain takes no parameters; given: steps"
    ):
        parameters.dry_run(path, {"steps": 3})
    with pytest.raises(parameters.ParameterError, match="never checks its parameters"):
        parameters.dry_run(chapter(tmp_path, checking="1"), {})


def test_a_script_without_a_notebook_is_checked_too():
    def check(steps):
        return parameters.check({"steps": steps, "other": 1}, steps=parameters.integer(1, 9))

    assert check(9).steps == 9
    with pytest.raises(parameters.ParameterError, match="out of range"):
        check(10)
    with pytest.raises(parameters.ParameterError, match="steps: has a rule"):
        parameters.check({}, steps=parameters.integer(1, 9))


# In JupyterLab: real IPython, cells in the order a reader executes them


@pytest.fixture
def execute(monkeypatch):
    """Executes a cell in an IPython session of its own; returns its result, or raises what it
    raised."""
    for name in (
        "__IPYTHON__",
        "display",
    ):  # a session announces itself to the whole process: undone afterwards
        monkeypatch.setattr(builtins, name, None, raising=False)
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    shell.showtraceback = lambda *_, **__: None  # pytest shows it

    def execute(cell):
        outcome = shell.run_cell(cell, store_history=True)
        outcome.raise_error()
        return outcome.result

    yield execute
    shell.restore_sys_module_state()


def test_other_names_in_the_session_are_of_no_interest(execute):
    execute("import math\nsteps_done = 3\nx: float = 2.0\n%pwd")
    execute(DECLARING)
    assert dict(execute(CHECKING)) == DEFAULTS
    execute("loss = 1")
    assert dict(execute(CHECKING)) == DEFAULTS


def test_the_parameter_cell_executed_last_counts(execute):
    execute(DECLARING)
    execute(CHECKING)
    execute(DECLARING.replace("50_000", "7").replace("optimisation", "better"))
    p = execute(CHECKING)
    assert p.steps == 7
    assert "| `steps` | `7` | `7` | 1 to 200,000 | better steps |" in p._repr_markdown_()
    execute("steps = 8")
    assert "| `steps` | **`8`** | `7` |" in execute(CHECKING)._repr_markdown_()
    execute(DECLARING.replace("steps: int", "stepz: int"))
    with pytest.raises(parameters.ParameterError) as error:
        execute(CHECKING)
    assert "stepz: stands in the parameter cell but has no rule" in str(error.value)
    assert "steps: has a rule but does not stand in the parameter cell" in str(error.value)


def test_of_injected_cells_only_the_last_after_the_parameter_cell_counts(execute):
    execute(DECLARING)
    execute("# Parameters\nstepz = 3\n")
    with pytest.raises(parameters.ParameterError, match="stepz: unknown"):
        execute(CHECKING)
    execute("# Parameters\nsteps = 3\n")
    assert execute(CHECKING).steps == 3
    execute("# Parameters\nstepz = 3\n")
    execute(DECLARING)
    assert execute(CHECKING).steps == 50_000


# What a run shows


def test_the_card_of_an_unchanged_run(tmp_path):
    assert parameters.dry_run(chapter(tmp_path), {})._repr_markdown_() == (
        "All parameters at their defaults.\n\n"
        "| parameter | this run | default | allowed | meaning |\n"
        "| :-- | :-- | :-- | :-- | :-- |\n"
        "| `dataset` | `digits` | `digits` | digits, mnist | what to train on |\n"
        "| `steps` | `50000` | `50000` | 1 to 200,000 | optimisation steps |\n"
        "| `learning_rate` | `0.1` | `0.1` | above 0, up to 10 | step size of gradient descent |\n"
        "| `quick` | `False` | `False` | True, False | a tenth of the work |\n\n"
        "To run this chapter with other values:\n\n"
        "```bash\n"
        "papermill chapters/99-test.ipynb out.ipynb -p dataset digits\n"
        'make rerun CHAPTER=99-test PARAMS="dataset=digits"\n'
        "```"
    )


def test_the_card_of_a_changed_run_says_how_to_repeat_it(tmp_path):
    card = parameters.dry_run(chapter(tmp_path), {"quick": True, "steps": 3})._repr_markdown_()
    assert card.startswith("Changed: `steps`, `quick`.\n")
    assert "| `steps` | **`3`** | `50000` |" in card
    assert "papermill chapters/99-test.ipynb out.ipynb -p steps 3 -p quick True\n" in card
    assert 'make rerun CHAPTER=99-test PARAMS="steps=3 quick=True"\n' in card


def test_parameters_are_values(tmp_path):
    p = parameters.dry_run(chapter(tmp_path), {})
    assert repr(p) == "Parameters(dataset='digits', steps=50000, learning_rate=0.1, quick=False)"
    with pytest.raises(AttributeError, match="-p steps"):
        p.steps = 3
    with pytest.raises(AttributeError, match="stepz"):
        _ = p.stepz
    assert copy.deepcopy(p) == pickle.loads(pickle.dumps(p)) == p
    assert json.loads(json.dumps(dict(p))) == DEFAULTS


def test_read_cell_tells_types_defaults_and_meanings():
    assert parameters.read_cell(
        DECLARING + '\nname = "a # b"  # with a # inside\nplain: int = -1'
    ) == [
        ("dataset", "str", "digits", "what to train on"),
        ("steps", "int", 50_000, "optimisation steps"),
        ("learning_rate", "float", 0.1, "step size of gradient descent"),
        ("quick", "bool", False, "a tenth of the work"),
        ("name", "str", "a # b", "with a # inside"),
        ("plain", "int", -1, ""),
    ]
    assert parameters.read_cell("") == []
    with pytest.raises(parameters.ParameterError, match="not Python"):
        parameters.read_cell("steps: int = ")


# Under papermill, in a real kernel


def papermill(path, *arguments):
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(path),
        str(path.with_name("out.ipynb")),
        *arguments,
    ]
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True)


def test_papermill_stops_at_the_check_which_names_all_that_is_wrong(tmp_path):
    given = {"stepz": "3", "quick": "false", "steps": "-1", "dataset": "imagenet21k"}
    words = [word for name, value in given.items() for word in ("-p", name, value)]
    process = papermill(chapter(tmp_path), *words)
    assert process.returncode == 1
    for complaint in (
        "stepz: unknown; did you mean steps?",
        "quick: 'false' is text",
        "steps: -1 is out of",
        "'imagenet21k' is none of digits",
        "What is allowed:",
    ):
        assert complaint in process.stderr
    after = nbformat.read(tmp_path / "out.ipynb", 4).cells[-1]
    assert after.source == "ran = True"
    assert after.execution_count is None


def test_papermill_runs_what_is_allowed_and_shows_the_card(tmp_path):
    path = chapter(tmp_path)
    process = papermill(path, "-p", "steps", "3", "-p", "learning_rate", "1", "-p", "quick", "True")
    assert process.returncode == 0, process.stderr
    cells = nbformat.read(tmp_path / "out.ipynb", 4).cells
    card = cells[-2].outputs[0].data["text/markdown"]
    assert cells[-1].execution_count
    given = {"steps": 3, "learning_rate": 1, "quick": True}
    assert card == parameters.dry_run(path, given)._repr_markdown_()
