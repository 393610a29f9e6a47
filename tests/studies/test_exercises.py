"""Checkers of exercises: right solutions pass, wrong ones are named by their first wrong line."""

import json
import re

import numpy as np
import pytest

from bnkit import paths
from bnkit.book import run_here
from bnkit.studies import exercises

FORWARD = """
def {name}(x, gamma, beta, eps):
    mean = x.mean(axis={axes}, keepdims=True)
    var = x.var(axis={axes}, keepdims=True)
    x_hat = (x - mean) / np.sqrt(var + eps)
    gamma, beta = gamma.reshape(mean.shape), beta.reshape(mean.shape)
    y = gamma * x_hat + beta
    return mean, var, x_hat, y
"""
OBSERVE = """
def observe(mean, var, batch, momentum):
    m = len(batch)
    new_mean = (1 - momentum) * mean + momentum * batch.mean(axis=0)
    new_var = (1 - momentum) * var + momentum * batch.var(axis=0) * m / (m - 1)
    return new_mean, new_var
"""
INFER = """
def infer(x, gamma, beta, mean, var, eps):
    return gamma * (x - mean) / np.sqrt(var + eps) + beta
"""
FOLD = """
def fold(weight, bias, gamma, beta, mean, var, eps):
    a = gamma / np.sqrt(var + eps)
    return weight * a[:, None], beta + a * (bias - mean)
"""
BACKWARD = """
def mine(x, gamma, beta, dy, eps):
    s = np.sqrt(x.var(axis=0) + eps)
    x_hat = (x - x.mean(axis=0)) / s
    dgamma, dbeta = (dy * x_hat).sum(axis=0), dy.sum(axis=0)
    dx = gamma / s * (dy - dbeta / len(x) - x_hat * dgamma / len(x))
    return dx, dgamma, dbeta
"""
PLAIN = FORWARD.format(name="forward", axes="0")
MAPS = FORWARD.format(name="forward_maps", axes="(0, 2, 3)")
SOLUTIONS = {
    "forward": PLAIN,
    "backward": BACKWARD,
    "observe": OBSERVE,
    "infer": INFER,
    "fold": FOLD,
    "feature-maps": MAPS,
}
MISTAKES = [  # exercise, what is replaced by what, the line that is named, words of the hint
    ("forward", "x.mean(axis=0", "x.sum(axis=0", "mean", "divide by m"),
    ("forward", "x.var(axis=0", "x.var(ddof=1, axis=0", "var", "m − 1"),
    ("forward", "x.var(axis=0", "(x**2).mean(axis=0", "var", "mean square"),
    ("forward", "x.var(axis=0", "x.std(axis=0", "var", "standard deviation"),
    ("forward", "np.sqrt(var + eps)", "(var + eps)", "x_hat", "divide by its root"),
    ("forward", "np.sqrt(var + eps)", "np.sqrt(var)", "x_hat", "eps is missing"),
    ("forward", "np.sqrt(var + eps)", "(np.sqrt(var) + eps)", "x_hat", "under it"),
    ("forward", "(x - mean) /", "x /", "x_hat", "mean has not been taken away"),
    ("forward", "gamma * x_hat + beta", "gamma * x_hat", "y", "beta is missing"),
    ("forward", "gamma * x_hat + beta", "beta * x_hat + gamma", "y", "changed places"),
    ("forward", "gamma * x_hat + beta", "gamma * (x_hat + beta)", "y", "scale first"),
    ("forward", "gamma * x_hat + beta", "gamma * x_hat + 1.01 * beta", "y", "off by"),
    ("feature-maps", "x.var(axis=(0, 2, 3)", "x.var(ddof=1, axis=(0, 2, 3)", "var", "m − 1"),
    ("observe", "* m / (m - 1)", "", "var", "biased"),
    ("observe", "(1 - momentum) * mean + momentum", "momentum * mean + (1 - momentum)", "mean", "rev"),
    ("infer", "(x - mean)", "(x - x.mean(axis=0))", "y", "off by"),
    ("infer", "np.sqrt(var + eps)", "np.sqrt(var)", "y", "eps is missing"),
    ("fold", "(bias - mean)", "(-mean)", "bias", "old bias is missing"),
    ("fold", "weight * a[:, None]", "weight", "weight", "not scaled"),
    ("backward", "- x_hat * dgamma / len(x)", "", "dx", "."),
    ("backward", "(dy * x_hat)", "(dy * x)", "dgamma", "."),
]  # fmt: skip


def verdict(name, source):
    names = {"np": np}
    exec(source, names)
    return exercises.check(name, names)


def test_the_press_knows_the_exercises():
    assert set(run_here.EXERCISES) == set(exercises.EXERCISES) == set(SOLUTIONS)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_a_right_solution_passes(name):
    assert verdict(name, SOLUTIONS[name]).startswith("All ")


@pytest.mark.parametrize(("name", "old", "new", "line", "words"), MISTAKES)
def test_the_first_wrong_line_is_named(name, old, new, line, words):
    assert old in SOLUTIONS[name]
    said = verdict(name, SOLUTIONS[name].replace(old, new))
    assert said.startswith(f"`{line}` is the first ")
    assert any(word in said for word in words.split("|"))


@pytest.mark.parametrize(
    ("name", "mean", "words"),
    [
        ("forward", "x.mean(axis=1)", "over the features"),
        ("forward_maps", "x.mean(axis=0)", "one for each channel"),
        ("forward_maps", "x.mean(axis=(1, 2, 3))", "has shape (4,) and should have (3,)"),
    ],
)
def test_a_mean_over_other_axes_is_named(name, mean, words):
    exercise = {"forward": "forward", "forward_maps": "feature-maps"}[name]
    said = verdict(exercise, f"def {name}(x, *_): return {mean}, 1, 1, 1")
    assert said.startswith("`mean` is the first ")
    assert words in said


def test_each_hint_of_a_line_is_told_apart_from_the_others():
    """No two usual mistakes come out alike, or the hint would be of the wrong one."""
    for shape in ((5, 3), (4, 3, 2, 5)):
        for line in exercises._lines_of_forward(*exercises._example(shape)):
            outcomes = [line.right, *line.mistakes.values()]
            for place, one in enumerate(outcomes):
                for other in outcomes[:place]:
                    alike = one.shape == other.shape and np.allclose(one, other, rtol=1e-6)
                    assert not alike, (line.name, place)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "There is no function 'infer' yet"),
        ("infer = 3", "There is no function 'infer' yet"),
        ("def infer(*_): return 1, 2", "returned 2 value"),
        ("def infer(*_): return None", "NaN"),
        ("def infer(*_): return 'y'", "no array of numbers"),
        ("def infer(*_): return np.ones(7)", "has shape (7,) and should have (5, 3)"),
        ("def infer(*_): return np.full((5, 3), np.nan)", "NaN"),
    ],
)
def test_what_is_no_answer_is_said_to_be_none(source, said):
    told = verdict("infer", source)
    assert any(words in told for words in said.split("|"))


def begun():
    """What the chapters give their readers to begin with: pairs of an exercise and its code."""
    for path in sorted((paths.root() / "chapters").glob("*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            yield from re.findall(r"(?s)```\{try-it\} (\S+)\n(.*?)\n```", "".join(cell["source"]))


def test_every_exercise_stands_in_a_chapter_once():
    assert sorted(name for name, _ in begun()) == sorted(exercises.EXERCISES)


@pytest.mark.parametrize(("name", "source"), list(begun()))
def test_what_a_reader_begins_with_is_wrong_and_the_checker_says_where(name, source):
    told = {
        "backward": "`dvar`",
        "feature-maps": "`mean` is the first line that is wrong. It is one mean for each place",
        "forward": "`var` is the first line that is wrong. It is divided by m − 1",
        "fold": "`bias` is the first line that is wrong. The old bias is added",
        "infer": "`y` is the first line that is wrong. It uses the statistics of this batch",
        "observe": "`var` is the first line that is wrong. The biased variance",
    }
    assert verdict(name, source).startswith(told[name])


def test_the_readers_own_error_reaches_the_reader():
    with pytest.raises(ZeroDivisionError):
        verdict("infer", "def infer(*_): return 1 / 0")
