"""The protocol: programs that answer well, badly and not at all; the example in C."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from bnkit import paths
from bnkit.conformance import examine
from bnkit.conformance.limit import TooSlow, Worker
from bnkit.conformance.program import Program

X = np.array([[0.0, 1.0], [4.0, 3.0]], np.float32)
ONES, ZEROS = np.ones(2, np.float32), np.zeros(2, np.float32)


@pytest.fixture
def program(tmp_path):
    """Starts a program of a few lines of Python, which has `line` and prints an answer."""
    running = []

    def start(answer):
        file = tmp_path / f"program{len(running)}.py"
        loop = f"for line in sys.stdin:\n    {answer}\n    sys.stdout.flush()\n"
        file.write_text(f"import json, os, sys, time\nnan, inf = 'nan', 'inf'\n{loop}")
        running.append(Program(f"{sys.executable} {file}"))
        return running[-1]

    yield start
    for each in running:
        each.__exit__()


def test_a_request_has_its_keys_in_the_order_that_scanf_needs(program, tmp_path):
    file = tmp_path / "line"
    keep = program(f"open({str(file)!r}, 'w').write(line); print('{{\"y\": [0, 0, 0, 0]}}')")
    keep.step(X, ONES, None, 2 * X, None)
    assert file.read_text() == (
        '{"call": "step", "dtype": "float32", "examples": 2, "channels": 2, "places": 1, '
        '"gamma": [1.0, 1.0], "beta": [], "mean": [], "var": [], '
        '"x": [0.0, 1.0, 4.0, 3.0], "dy": [0.0, 2.0, 8.0, 6.0]}\n'
    )
    keep.infer(X[None], ONES, ZEROS, X[None], (ZEROS, ONES))
    sent = json.loads(file.read_text())
    assert (sent["call"], sent["examples"], sent["channels"], sent["places"]) == ("infer", 1, 2, 2)
    assert (sent["mean"], sent["var"]) == ([0, 0], [1, 1])


def test_an_answer_is_read_in_any_order_and_as_c_prints_numbers(program):
    answer = '{"var": [1e0, -inf], "y": [nan, -nan, inf, 4], "dbeta": [2, 3], "note": [1]}'
    step = program(f"print({answer!r})").step(X, ONES, ZEROS, X, None)
    assert np.array_equal(step.y, [[np.nan, np.nan], [np.inf, 4]], equal_nan=True)
    assert np.array_equal(step.var, [1, -np.inf])
    assert np.array_equal(step.dbeta, [2, 3])
    assert step.dx is None


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ("print('hello')", RuntimeError, "no JSON: .*begins 'hello"),
        ("sys.exit(3)", RuntimeError, "ended with status 3"),
        ("print('{\"dx\": []}')", RuntimeError, "has no y, but dx"),
        ("print('{\"y\": [1]}')", ValueError, "reshape"),
    ],
)
def test_a_bad_answer_is_named_and_the_next_one_heard(program, answer, error, said):
    bad = program(f"print(line) if '\"infer\"' in line else ({answer})")
    for _ in range(2):
        with pytest.raises(error, match=said):
            bad.step(X, ONES, ZEROS, X, None)


def test_after_a_call_that_hangs_the_program_is_started_anew(program):
    worker = Worker()
    once = program("time.sleep(60) if '7.0' in line else print('{\"y\": [0, 0, 0, 0]}')")
    with pytest.raises(TooSlow):
        worker.call(lambda: once.step(X + 7, ONES, ZEROS, X, None), 0.2)
    step = worker.call(lambda: once.step(X, ONES, ZEROS, X, None), 60)
    assert np.array_equal(step.y, np.zeros((2, 2)))
    worker.close()


def test_a_command_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        Program("no-such-program")


# ---- The example in C ----------------------------------------------------------------------------

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def compiled(folder, *flags):
    if COMPILER is None:
        pytest.skip("the example in C: no compiler (cc, gcc, clang) is found")
    source = paths.root() / "adapters" / "batch_norm.c"
    command = [COMPILER, "-O2", "-Wall", "-Werror", *flags, "-o", folder / "bn", source, "-lm"]
    subprocess.run(command, check=True)
    return str(folder / "bn")


def test_the_example_in_c_passes(tmp_path):
    with Program(compiled(tmp_path)) as running:
        card = examine(running.step, running.infer, momentum=0.1, limit=100)
    answers = {
        "epsilon": 1e-5, "new_weight": 0.1, "running_variance": "unbiased",
        "momentum": "share of the new batch", "inference_uses": "running values",
    }  # fmt: skip
    card.require("all", **answers)
    assert {f.dtype for f in card.of("dx") if f.holds} == {"float64", "float32", "float16"}


def test_the_example_in_c_with_short_numbers_does_not(tmp_path):
    """In float it cannot keep the digits of a float64."""
    with Program(compiled(tmp_path, "-DREAL=float")) as running:
        card = examine(running.step, running.infer, dtypes=["float64"], limit=100)
    assert {"forward", "dx", "inference"} <= set(card.failed)
    assert max(f.spacings for f in card.of("forward")) * 2.0**-52 < 1e-6
