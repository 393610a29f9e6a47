"""What is examined by name, the adapters' files, and the command, ``__main__``."""

import argparse
import ast
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from bnkit import paths
from bnkit.conformance import Card, Step, examine, from_json, library
from bnkit.conformance import __main__ as door
from bnkit.conformance.asked import PROBES, QUESTIONS

ADAPTERS = sorted((paths.root() / "adapters").glob("*.py"))
LAYER = """
import numpy as np
from bnkit.conformance import Step
from bnkit.conformance.variants import Variant
layer = Variant()
step, infer = layer.step, layer.infer
CARDS = {"a layer": lambda: {"step": step, "infer": infer, "dtypes": ["float64"]},
         "another, of a library that is not there": lambda: __import__("no_such_library")}
INSTALL, PACKAGES = "numpy", ("numpy",)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mylayer.py").write_text(LAYER)
    (tmp_path / "absent.py").write_text("import no_such_library")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments):
    run = [sys.executable, "-m", "bnkit.conformance", *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True)


def test_a_function_is_found_by_name_from_the_working_directory(folder):
    ran = command("mylayer:step", "--infer", "mylayer:layer.infer", "--momentum", "0.1", "--json")
    assert ran.returncode == 0, ran.stderr
    card = from_json(ran.stdout)
    assert ran.stdout == card.json()
    assert card.name == "mylayer:step"
    card.require("all", momentum="share of the new batch", inference_uses="running values")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("mylayer", "name it module:function"),
        ("mylayer:forward", "no attribute 'forward'"),
        ("nolayer:step", "No module named 'nolayer'; run this where nolayer can be imported"),
        ("none.py", "there is no adapter none; there are absent, mylayer"),
        ("absent.py", "absent is missing here.*make conformance LIBRARY=absent"),
    ],
)
def test_what_is_not_there_is_one_clear_error(folder, what, said):
    find = library.adapter if what.endswith(".py") else library.function
    with pytest.raises(library.Missing, match=said):
        find(what)
    ran = command(what)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.count("\n") == 1


def test_an_adapter_is_examined_and_recorded_and_what_is_missing_is_named(folder):
    ran = command("mylayer.py", "--record", folder / "cards")
    assert ran.returncode == 1
    assert "another, of a library that is not there: not examined, ModuleNotFound" in ran.stderr
    assert "forward" in ran.stdout
    (path,) = (folder / "cards").iterdir()
    assert path.name == "a-layer.json"
    card = from_json(path.read_text())
    assert {"numpy", "python", "platform", "day"} == set(card.made)
    assert command("mylayer.py", "--only", "a layer").returncode == 0


@pytest.mark.parametrize("what", ["no-such-program", ".", "./mylayer.py"])
def test_a_program_that_cannot_be_run(folder, what):
    """One that is not there, a folder, and a file that nobody may execute."""
    ran = command(what, "--program")
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert ran.stderr.startswith(f"error: {what!r} cannot be run: ")


def test_json_alone_is_printed_where_cards_are_stored_too(folder):
    ran = command("mylayer.py", "--only", "a layer", "--json", "--record", "cards")
    assert ran.stdout == (folder / "cards/a-layer.json").read_text()
    assert ran.stderr.startswith("stored as ")


def chosen(only):
    """Names of cards, of which none is made."""
    module = argparse.Namespace(CARDS=dict.fromkeys(["torch", "torch, compiled"], absent))
    return [name for name, _, _ in library.cards(module, only)]


def absent():
    raise ImportError("by hand")


def test_cards_are_chosen_by_their_whole_name_or_by_a_part():
    assert chosen("torch") == ["torch"]
    assert chosen("comp") == ["torch, compiled"]
    assert chosen("tor") == chosen("") == ["torch", "torch, compiled"]


@pytest.mark.parametrize(
    ("only", "meant"), [("nosuch", "compiled'$"), ("Torch", "; did you mean 'torch'[?]$")]
)
def test_a_card_that_there_is_not_is_named_beside_those_that_there_are(folder, only, meant):
    said = f"no card has '{only}' in its name; there are 'torch'; 'torch, compiled'"
    with pytest.raises(library.Missing, match=f"^{said}") as error:
        chosen(only)
    assert re.search(meant, str(error.value))
    ran = command("mylayer.py", "--only", only)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"error: no card has '{only}'")
    assert ran.stderr.count("\n") == 1


OF_FUNCTIONS = ("--infer", "--axis", "--momentum", "--dtypes", "--limit")
VALUES = dict(zip(OF_FUNCTIONS, ("a:b", "1", "0.1", "float32", "3"), strict=True))


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (["mylayer:step", "--only", "x"], "mylayer:step is a function: leave out --only; "),
        (["cat", "--program", "--only", "x"], "cat is a program: leave out --only; "),
        (["cat", "--program", "--infer", "a:b"], "cat is a program: leave out --infer; "),
        *(
            (["mylayer.py", name, value], f"mylayer.py is an adapter: leave out {name}; ")
            for name, value in VALUES.items()
        ),
    ],
    ids=str,
)
def test_an_option_that_does_not_apply_is_refused(folder, capsys, arguments, refused):
    parser = argparse.ArgumentParser()
    door.arguments(parser.add_argument)
    assert door.run(parser.parse_args(arguments)) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {refused}")
    assert printed.err.count("\n") == 1


def test_help_says_what_the_exit_status_means():
    for module in (["bnkit.conformance"], ["bnkit", "conformance"]):
        asked = [sys.executable, "-m", *module, "--help"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        assert "Exit status: 0 where every card was made" in " ".join(done.stdout.split())


def test_names_of_files():
    assert library.file_name("flax nnx, use_fast_variance=False") == (
        "flax-nnx-use-fast-variance-false.json"
    )
    assert library.file_name("bnkit.layers.BatchNorm") == "bnkit.layers.batchnorm.json"


# ---- What is committed ---------------------------------------------------------------------------


def constants(path):
    """The literals at the top of an adapter, which need not be importable here."""
    tree = ast.parse(path.read_text())
    return {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def names(adapter):
    keys = constants(adapter)["CARDS"].keys
    folded = {"DECAY": 0.99}
    parts = [
        "".join(
            str(v.value if isinstance(v, ast.Constant) else folded[v.value.id]) for v in k.values
        )
        if isinstance(k, ast.JoinedStr)
        else k.value
        for k in keys
    ]
    return parts


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda path: path.stem)
def test_an_adapter_says_what_it_needs(adapter):
    found = constants(adapter)
    assert ast.literal_eval(found["INSTALL"])
    assert ast.literal_eval(found["PACKAGES"])
    assert ast.get_docstring(ast.parse(adapter.read_text()))
    assert len(adapter.read_text().splitlines()) < 120


def recorded():
    return {p.name: p.read_text() for p in (paths.root() / "data/conformance").glob("*.json")}


def test_every_card_of_every_adapter_is_recorded_and_no_other():
    wanted = {library.file_name(name) for adapter in ADAPTERS for name in names(adapter)}
    assert set(recorded()) == wanted


@pytest.mark.parametrize("name", sorted(recorded()))
def test_a_recorded_card_is_whole(name):
    card = from_json(recorded()[name])
    assert isinstance(card, Card)
    assert library.file_name(card.name) == name
    assert json.loads(card.json()) == json.loads(recorded()[name])
    assert list(card.conventions) == list(QUESTIONS)
    assert {f.probe for f in card.findings} <= set(PROBES)
    assert len(card.made["day"]) == 10
    assert not [f for f in card.findings if f.note.startswith("no answer")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["os:path"], "name a function"),
        (["./nofile.py:step"], "error: "),
        (["broken:step"], "ZeroDivisionError"),
        (["mine.py"], "has no CARDS"),
        (["--program", ""], "the command is empty"),
        (["--program", "'unbalanced"], "is no command"),
        (["mine:step", "--record", "mine.py"], "--record takes a folder"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, arguments, said):
    (tmp_path / "mine.py").write_text("def step(*given): pass\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    environment = {**os.environ, "PYTHONPATH": str(paths.root())}
    asked = [sys.executable, "-m", "bnkit.conformance", *arguments]
    done = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("limit", ["-1", "0", "nan", "soon"])
def test_a_limit_is_a_time(limit, capsys):
    parser = argparse.ArgumentParser()
    door.arguments(parser.add_argument)
    with pytest.raises(SystemExit):
        parser.parse_args(["mine:step", f"--limit={limit}"])
    assert "no number of seconds above 0" in capsys.readouterr().err


def test_what_cannot_be_meant_is_refused():
    def step(x, gamma, beta, dy, state):
        return Step(x)

    with pytest.raises(ValueError, match="give a list"):
        examine(step, dtypes="float32")
    with pytest.raises(ValueError, match="seconds above 0"):
        examine(step, limit=-1)
    card = examine(step, dtypes=["float64"])
    with pytest.raises(AssertionError, match="forward"):
        card.require(forward=np.int64(0))
