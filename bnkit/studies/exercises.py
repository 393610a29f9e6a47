"""Checkers of the exercises that readers solve in the page: each names the first wrong line.

A reader's function is called once, with a batch of random numbers and an eps that cannot be
overlooked, and what it returns is compared line by line with ``bnkit.reference``. Where a wrong
line is one of the usual mistakes, to the last digits, the answer says which.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bnkit import gradcheck, reference
from bnkit.studies import backprop

Array = np.ndarray
TOLERANCE = 1e-9  # relative; the arithmetic is the same, in float64
EPS = 0.1


class Line(NamedTuple):
    """One thing that the reader's function returns."""

    name: str
    """As the exercise calls it."""
    right: Array
    """What it should be."""
    mistakes: Mapping[str, Array]
    """What it is often instead: a sentence, and what comes out."""


class Exercise(NamedTuple):
    """A function to write."""

    function: str
    """Its name."""
    check: Callable[[Callable], str]
    """Takes the reader's function and returns the verdict, in a sentence or two."""


def check(name: str, names: Mapping) -> str:
    """Check the function that exercise `name` asks for, among a reader's `names`; in a sentence.

    Raises KeyError for an unknown exercise, and what the reader's own function raises.
    """
    exercise = EXERCISES[name]
    if not callable(names.get(exercise.function)):
        what = f"There is no function {exercise.function!r} yet"
        return f"{what}: write it, with the arguments of the exercise."
    return exercise.check(names[exercise.function])


def first_wrong(answer: object, lines: Sequence[Line]) -> str:
    """The first of `lines` that the reader's `answer`, a tuple of them in order, has wrong."""
    names = ", ".join(line.name for line in lines)
    answer = answer if isinstance(answer, (tuple, list)) else (answer,)
    if len(answer) != len(lines):
        wanted = f"the exercise asks for {len(lines)}: {names}"
        return f"The function returned {len(answer)} value(s); {wanted}."
    for line, value in zip(lines, answer, strict=True):
        if problem := _problem(line, value):
            return f"`{line.name}` is the first line that is wrong. {problem}"
    return f"All of it is right: {names}."


def _problem(line: Line, value: object) -> str:
    try:
        value = np.asarray(value, float)
    except (TypeError, ValueError):
        return f"It is {type(value).__name__}, which is no array of numbers."
    right = np.squeeze(line.right)  # keepdims leaves axes of length 1
    value = np.squeeze(value)
    if not np.isfinite(value).all():
        return "It holds NaN or infinity."
    if _same(value, right):
        return ""
    for sentence, wrong in line.mistakes.items():
        if _same(value, np.squeeze(wrong)):
            return sentence
    if value.shape != right.shape:
        return f"It has shape {value.shape} and should have {right.shape}."
    error = gradcheck.relative_error(value, right)
    return f"It is off by {error:.1g} of its largest value."


def _same(one: Array, other: Array) -> bool:
    return one.shape == other.shape and gradcheck.relative_error(one, other) < TOLERANCE


# The exercises


def _example(shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """A batch, gamma and beta, none of them special."""
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 1.5, shape) * np.linspace(0.5, 2, shape[1]).reshape(
        -1, *[1] * (len(shape) - 2)
    )
    return x, rng.uniform(0.5, 2, shape[1]), rng.normal(size=shape[1])


def _lines_of_forward(x: Array, gamma: Array, beta: Array) -> list[Line]:
    axes = (0, *range(2, x.ndim))
    y, cache = reference.forward(x, gamma, beta, EPS)
    mean, var, x_hat = cache.mean, cache.var, cache.x_hat
    places = {"It is one mean for each place; take one for each channel.": x.mean(axis=0)}
    places = places if x.ndim > 2 else {}  # of features there is one place
    g, b, mu, v = (each.reshape(-1, *[1] * (x.ndim - 2)) for each in (gamma, beta, mean, var))
    return [
        Line("mean", mean, {
            "It is the mean over the features of each example, not over the batch.": x.mean(axis=1),
            "It is the sum: divide by m.": x.sum(axis=axes),
        } | places),
        Line("var", var, {
            "It is divided by m − 1; Algorithm 1 divides by m.": x.var(axis=axes, ddof=1),
            "It is the mean square: the mean has not been taken away.": (x**2).mean(axis=axes),
            "It is the standard deviation, the root of the variance.": x.std(axis=axes),
            "eps is added to it here; it belongs under the root, in the next line.": var + EPS,
        }),
        Line("x_hat", x_hat, {
            "It is divided by the variance; divide by its root.": (x - mu) / (v + EPS),
            "eps is missing under the root.": (x - mu) / np.sqrt(v),
            "eps stands beside the root; it belongs under it.": (x - mu) / (np.sqrt(v) + EPS),
            "The mean has not been taken away.": x / np.sqrt(v + EPS),
        }),
        Line("y", y, {
            "beta is missing.": g * x_hat,
            "gamma is missing.": x_hat + b,
            "gamma and beta have changed places.": b * x_hat + g,
            "gamma multiplies beta, too: scale first, then shift.": g * (x_hat + b),
        }),
    ]  # fmt: skip


def _forward(mine: Callable, shape: tuple[int, ...]) -> str:
    x, gamma, beta = _example(shape)
    return first_wrong(
        mine(x.copy(), gamma.copy(), beta.copy(), EPS), _lines_of_forward(x, gamma, beta)
    )


def _observe(mine: Callable) -> str:
    x, mean, var = _example((4, 3))
    mean, var, share = mean, var**2 + 1, 0.1
    mu, biased, unbiased = x.mean(axis=0), x.var(axis=0), x.var(axis=0, ddof=1)
    right = reference.observe(reference.Population(mean, var, 1), x, share)
    keep = 1 - share
    lines = [
        Line("mean", right.mean, {
            "The shares are reversed: momentum is the share of the new batch.":
                share * mean + keep * mu,
            "It is the batch's own mean; the old one counts, too.": mu,
        }),
        Line("var", right.var, {
            "The biased variance is stored; the population's is m/(m − 1) times it.":
                keep * var + share * biased,
            "The shares are reversed: momentum is the share of the new batch.":
                share * var + keep * unbiased,
            "Deviations are averaged; average variances.":
                (keep * np.sqrt(var) + share * np.sqrt(unbiased)) ** 2,
        }),
    ]  # fmt: skip
    return first_wrong(mine(mean.copy(), var.copy(), x.copy(), share), lines)


def _infer(mine: Callable) -> str:
    x, gamma, beta = _example((5, 3))
    mean, var = np.array([1.0, -2.0, 0.5]), np.array([0.3, 2.0, 1.1])
    y = reference.infer(x, gamma, beta, reference.Population(mean, var, 1), EPS)
    lines = [
        Line("y", y, {
            "It uses the statistics of this batch; inference uses the population's.":
                reference.forward(x, gamma, beta, EPS)[0],
            "It is divided by the variance; divide by its root.":
                gamma * (x - mean) / (var + EPS) + beta,
            "eps is missing under the root.": gamma * (x - mean) / np.sqrt(var) + beta,
            "gamma and beta are missing.": (x - mean) / np.sqrt(var + EPS),
        })
    ]  # fmt: skip
    return first_wrong(
        mine(x.copy(), gamma.copy(), beta.copy(), mean.copy(), var.copy(), EPS), lines
    )


def _fold(mine: Callable) -> str:
    weight, gamma, beta = _example((4, 3))
    weight, bias = weight.T, np.array([0.5, -1.0, 2.0])  # (out, in)
    mean, var = np.array([1.0, -2.0, 0.5]), np.array([0.3, 2.0, 1.1])
    population = reference.Population(mean, var, 1)
    right = reference.fold(weight, bias, gamma, beta, population, EPS)
    a = gamma / np.sqrt(var + EPS)
    lines = [
        Line("weight", right[0], {
            "It is not scaled: each output has a factor of its own.": weight,
            "gamma is missing in the factor.": weight / np.sqrt(var + EPS)[:, None],
            "eps is missing under the root.": weight * (gamma / np.sqrt(var))[:, None],
        }),
        Line("bias", right[1], {
            "The old bias is missing; it is scaled like the weights.": beta - a * mean,
            "The old bias is added without being scaled.": beta - a * mean + bias,
            "The mean is missing.": beta + a * bias,
            "The mean is not scaled.": beta + a * bias - mean,
        }),
    ]  # fmt: skip
    given = (weight, bias, gamma, beta, mean, var)
    return first_wrong(mine(*(each.copy() for each in given), EPS), lines)


EXERCISES = {
    "forward": Exercise("forward", lambda mine: _forward(mine, (5, 3))),
    "backward": Exercise("mine", lambda mine: backprop.check(mine).message),
    "observe": Exercise("observe", _observe),
    "infer": Exercise("infer", _infer),
    "fold": Exercise("fold", _fold),
    "feature-maps": Exercise("forward_maps", lambda mine: _forward(mine, (4, 3, 2, 5))),
}
