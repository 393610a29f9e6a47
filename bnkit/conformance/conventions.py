"""Conventions of calling and of a batch, inferred: where two right implementations may differ."""

import numpy as np

from bnkit.conformance import judge
from bnkit.conformance.judge import FLOOR, INSIDE, OUTSIDE
from bnkit.conformance.questions import (
    CLOSE,
    NO_RULE,
    Question,
    biased_or_not,
    into,
    nearest,
    normal,
    ones,
    refused,
    rounded,
    rule,
)
from bnkit.conformance.step import Trouble, spacings

QUESTIONS: dict[str, Question] = {}
question = into(QUESTIONS)


# ---- How it wants to be called -------------------------------------------------------------------


@question
def axis(subject, answers):
    """Which axis keeps its features apart: 1 or −1. A map has as many rows as channels for it."""
    # The last axis and axis 1 have the same length, so that γ fits either.
    x = normal(0, 6, 3, 4, 3) * np.array([1.0, 2.0, 4.0])[:, None, None]
    x = (x * np.array([1.0, 3.0, 9.0]) + 5 * normal(1, 1, 3, 1, 3)).astype(answers["dtype"])
    gamma, beta = ones(3, answers)
    try:
        y = subject.train(x, gamma, beta).y
    except Trouble as trouble:
        answers["no maps"] = refused(trouble)
        return f"1, no maps: {answers['no maps']}"
    misses = {}
    for place in (1, -1):
        right = judge.train(np.moveaxis(x, place, 1), gamma, beta).y
        misses[place] = float(np.max(np.abs(np.moveaxis(y, place, 1) - right)))
    best = min(misses, key=misses.get)
    if not misses[best] < 0.3:  # the variance with m − 1 and a large ε move it less than this
        return f"{NO_RULE}: neither axis 1 nor axis −1 is normalized"
    return best


@question
def dtypes(subject, answers):
    """Which of the dtypes asked for it takes; in the others nothing more is asked."""
    taken, refusals = answers["dtypes taken"], []
    for dtype, train in answers["ways in"].items():
        x, gamma, beta = np.arange(12.0).reshape(4, 3), np.ones(3), np.zeros(3)
        kind = np.float32 if dtype == "bfloat16" else dtype
        try:
            train(x.astype(kind), gamma.astype(kind), beta.astype(kind))
            taken.append(dtype)
        except Trouble as trouble:
            refusals.append(f"; {dtype} {refused(trouble)}")
    return ", ".join(taken) + "".join(refusals)


# ---- How a batch is normalised -------------------------------------------------------------------


def divisors(subject, answers):
    """σ² of channels from very small to large, and what x − μ was divided by; (d,) each."""
    deviations = np.float64(10.0) ** np.arange(-8, 4.1, 0.5)
    x = (normal(2, 4, len(deviations)) * deviations).astype(answers["dtype"])
    gamma, beta = ones(len(deviations), answers)
    y = np.asarray(subject.train(x, gamma, beta).y, np.float64)
    mean, var = judge.moments(x)
    x_mu = np.asarray(x - mean, np.float64)
    slope = (y * x_mu).sum(axis=0) / (x_mu * x_mu).sum(axis=0)
    return np.asarray(var, np.float64), 1 / slope


@question
def batch_variance(subject, answers):
    """Whether a batch is normalized by its variance with m (biased) or m − 1 (unbiased)."""
    var, divided_by = answers["divisors"] = divisors(subject, answers)
    return biased_or_not(divided_by[-1] ** 2 / var[-1], 4)


def _epsilons(answers):
    """ε by each place for it, from every channel in which it shows: place -> values."""
    var, divided_by = answers["divisors"]
    var = var * (4 / 3 if answers["batch_variance"] == "unbiased" else 1)
    shows = divided_by**2 > 1.02 * var
    var, divided_by = var[shows], divided_by[shows]
    return {
        INSIDE: divided_by**2 - var,
        OUTSIDE: divided_by - np.sqrt(var),
        FLOOR: divided_by**2,
    }


@question
def epsilon(subject, answers):
    """ε, from channels whose variance it outweighs."""
    if "divisors" not in answers:
        return "not asked: batch_variance has no answer"
    if answers["batch_variance"].startswith(NO_RULE):
        answers["epsilon_place"] = "cannot be told: batch_variance follows no rule"
        return answers["epsilon_place"]
    by_place = _epsilons(answers)
    if not len(by_place[INSIDE]):
        return 0.0
    place = answers["epsilon_place"] = _best_place(by_place)
    return rounded(np.median(by_place.get(place, by_place[INSIDE])))


def _best_place(by_place):
    spread = {p: np.ptp(values) / abs(np.median(values)) for p, values in by_place.items()}
    place = min(spread, key=spread.get)
    return place if spread[place] < 0.02 else NO_RULE


@question
def epsilon_place(subject, answers):
    """Where ε stands: under the root, beside it, or as the least variance there is."""
    return answers.get("epsilon_place", "none seen")


@question
def training_uses(subject, answers):
    """Whether training normalizes the second batch by itself or by running values."""
    gamma, beta = ones(5, answers)
    first = (3 + normal(3, 6, 5)).astype(answers["dtype"])
    second = (2 * normal(4, 6, 5) - 1).astype(answers["dtype"])
    before = subject.train(first, gamma, beta)
    after = subject.train(second, gamma, beta, state=before.state)
    candidates = {"the batch": judge.train(second, gamma, beta, rule=rule(answers)).y}
    for word, step in (("before", before), ("after", after)):
        if step.mean is not None and step.var is not None:
            inferred = judge.infer(second, gamma, beta, step.mean, step.var, rule=rule(answers))
            candidates[f"running values, {word} the batch"] = inferred.y
    return nearest(after.y, candidates)


# ---- Corners -------------------------------------------------------------------------------------


@question
def one_value(subject, answers):
    """What a batch of one value a channel gives in training: it has no variance."""
    x = normal(10, 1, 3).astype(answers["dtype"])
    gamma, beta = np.ones(3, x.dtype), np.array([1, -2, 3], x.dtype)
    try:
        step = subject.train(x, gamma, beta)
    except Trouble as trouble:
        return refused(trouble)
    if not np.isfinite(step.y).all():
        return "y is not finite"
    words = {"β": beta[None], "x itself": x}
    near = [w for w, y in words.items() if spacings(step.y, y, str(x.dtype)) < 64]
    word = near[0] if near else "neither β nor x"
    spoilt = step.var is not None and not np.isfinite(step.var).all()
    return f"{word}, and the running variance is not finite" if spoilt else word


@question
def empty_batch(subject, answers):
    """What a batch without examples gives in training."""
    gamma, beta = ones(3, answers)
    try:
        step = subject.train(np.zeros((0, 3), answers["dtype"]), gamma, beta)
    except Trouble as trouble:
        return refused(trouble)
    values = [v for v in (step.mean, step.var) if v is not None]
    if all(np.isfinite(v).all() for v in values):
        return "an empty y"
    return "an empty y, and running values that are not finite"


@question
def without_gamma_beta(subject, answers):
    """Whether γ and β may be left out, as 1 and 0."""
    x = normal(11, 6, 3).astype(answers["dtype"])
    try:
        y = subject.train(x, None, None).y
    except Trouble as trouble:
        return refused(trouble)
    right = judge.train(x, *ones(3, answers), rule=rule(answers)).y
    return "1 and 0" if np.max(np.abs(y - right)) < 10 * CLOSE else NO_RULE
