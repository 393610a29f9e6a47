"""Questions about conventions: how they are registered, and what those that ask share.

Each question is a function of a Subject and the answers so far. It returns a value to print and to
require; "not reported" and "not asked: why" are answers, too.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from bnkit.conformance.judge import FLOOR, INSIDE, OUTSIDE, Rule
from bnkit.conformance.step import Subject, Trouble

NO_RULE = "no rule fits"
NOT_REPORTED = "not reported"
CLOSE = 1e-3  # relative; conventions that differ at all differ by more, batches are small for that

Answers = dict[str, Any]
Question = Callable[[Subject, Answers], Any]


def into(questions: dict[str, Question]) -> Callable[[Question], Question]:
    """A decorator that enters a question into `questions` by its name."""

    def register(function):
        questions[function.__name__] = function
        return function

    return register


# ---- Batches -------------------------------------------------------------------------------------


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def ones(d, answers):
    """γ = 1 and β = 0 for d features, in the dtype in which is asked."""
    return np.ones(d, answers["dtype"]), np.zeros(d, answers["dtype"])


# ---- Answers -------------------------------------------------------------------------------------


def rule(answers) -> Rule:
    """The rule by which defects are judged: what was found, else the paper's."""
    place = answers.get("epsilon_place")
    value = answers.get("epsilon")
    return Rule(
        value if isinstance(value, float) and np.isfinite(value) else 1e-5,
        place if place in (OUTSIDE, FLOOR) else INSIDE,
        answers.get("batch_variance") == "unbiased",
    )


def biased_or_not(ratio, m):
    """A word for a variance that is `ratio` times the biased one of m values."""
    for word, factor in (("biased", 1.0), ("unbiased", m / (m - 1))):
        if abs(ratio / factor - 1) < 10 * CLOSE:
            return word
    return f"{NO_RULE}: {ratio:.3g} times the biased one"


def nearest(y, candidates):
    misses = {word: float(np.max(np.abs(y - right))) for word, right in candidates.items()}
    word = min(misses, key=misses.get)
    return word if misses[word] < 10 * CLOSE else NO_RULE


def rounded(value, digits=3):
    """A measured setting without the noise of its measurement."""
    return float(f"{float(value):.{digits}g}")


def refused(trouble: Trouble) -> str:
    """That it refuses is a convention, its words are not: "refused (ValueError)"."""
    said = str(trouble)
    if not said.startswith("raised "):
        return said
    return f"refused ({said.removeprefix('raised ').split(':')[0]})"
