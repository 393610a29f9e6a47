"""Conventions of running values and of inference, inferred from what three batches leave."""

import numpy as np

from bnkit.conformance import judge
from bnkit.conformance.judge import OUTSIDE, Running
from bnkit.conformance.questions import (
    CLOSE,
    NO_RULE,
    NOT_REPORTED,
    Question,
    biased_or_not,
    into,
    nearest,
    normal,
    ones,
    rounded,
    rule,
)
from bnkit.conformance.step import SPACING, Trouble

QUESTIONS: dict[str, Question] = {}
question = into(QUESTIONS)


# ---- Running values ------------------------------------------------------------------------------


def _three_steps(subject, answers):
    """Three batches of 4, 12 channels of unlike means and variances, and the steps they make."""
    spread = np.linspace(0.5, 2, 12)
    batches = []
    for rng in map(np.random.default_rng, (5, 6, 7)):
        x = spread[rng.permutation(12)] * rng.normal(size=(4, 12)) + 3 * rng.normal(size=12)
        batches.append(x.astype(answers["dtype"]))
    gamma, beta = ones(12, answers)
    steps, state = [], None
    for x in batches:
        steps.append(subject.train(x, gamma, beta, state=state))
        state = steps[-1].state
    return batches, steps


def _fit(new, old, result):
    """result = share · new + keep · old + rest, over channels: the three, None for a bad fit."""
    columns = [new] if old is None else [new, old]
    matrix = np.stack([*columns, np.ones(len(new))], axis=1).astype(np.float64)
    result = np.asarray(result, np.float64)
    solution = np.linalg.lstsq(matrix, result, rcond=None)[0]
    miss = np.max(np.abs(matrix @ solution - result))
    if not miss < CLOSE * np.ptp(result):
        return None
    share, *keep, rest = solution
    return float(share), float(keep[0]) if keep else 0.0, float(rest)


def _fits(batches, steps, name, part):
    """The fit of each step for one running value, "mean" or "var"."""
    old, fits = None, []
    for x, step in zip(batches, steps, strict=True):
        value = getattr(step, name)
        fits.append(_fit(judge.moments(x)[part], old, value))
        old = value
    return fits


@question
def new_weight(subject, answers):
    """The share of a new batch in the running value, once it is under way."""
    batches, steps = _three_steps(subject, answers)
    if any(step.mean is None or step.var is None for step in steps):
        return NOT_REPORTED
    means, variances = (_fits(batches, steps, *which) for which in (("mean", 0), ("var", 1)))
    if None in means:
        return NO_RULE
    shares = [share for share, _, _ in means]
    answers["running"] = (shares, means, variances)
    weight, answers["start"] = _weight_and_start(shares, means[0][2])
    return weight


def _weight_and_start(shares, rest):
    """What three shares of the new batch say, and the part `rest` of the start that is left."""
    first, second, third = shares
    if abs(first - 1) > CLOSE:
        alike = max(abs(second - first), abs(third - first)) < CLOSE
        start = f"mean {_tidy(rest / (1 - first)):g}"
        return (rounded(first), start) if alike else (f"{NO_RULE}: shares {shares}", start)
    debiased = 1 / second - 1
    if abs(second - third) < CLOSE:
        return rounded(second), "the first batch alone"
    if abs(third - 1 / (1 + debiased + debiased**2)) < CLOSE:
        if abs(debiased - 1) < CLOSE:
            return "1 / batches", "the first batch alone"
        return rounded(1 - debiased), "debiased"
    return f"{NO_RULE}: shares {shares}", "the first batch alone"


def _tidy(value):
    """A starting value, to three digits; 0 where it is nothing but rounding."""
    return 0.0 if abs(value) < CLOSE else rounded(value, 3)


@question
def momentum(subject, answers):
    """What the library calls momentum: the share of the new batch or of the old value."""
    given, weight = answers.get("momentum given"), answers.get("new_weight")
    if given is None or not isinstance(weight, float):
        return "not given"
    if abs(given - weight) < CLOSE:
        return "share of the new batch"
    if abs(1 - given - weight) < CLOSE:
        return "share of the old value"
    return f"{NO_RULE}: it is {given:g}, the new batch has {weight:g}"


@question
def start(subject, answers):
    """What is there before the first batch, or how its share is made up for."""
    word = answers.get("start", NOT_REPORTED)
    first = answers["running"][2][0] if "running" in answers else None
    if first is None:
        return word
    share, rest = answers["running"][0][0], first[2]
    if abs(share - 1) > CLOSE:
        return f"{word}, variance {_tidy(rest / (1 - share)):g}"
    if abs(rest) > CLOSE:
        return f"{word}, but {rounded(rest, 3):g} is added to the variance"
    return word


@question
def running_variance(subject, answers):
    """Whether the variance is kept with m (biased) or m − 1 (unbiased), and what m counts."""
    if "running" not in answers:
        return NOT_REPORTED
    shares, _, variances = answers["running"]
    if None in variances:
        return f"{NO_RULE}: it is no average of variances"
    ratios = np.array([new / share for share, (new, _, _) in zip(shares, variances, strict=True)])
    if np.max(np.abs(ratios / ratios[0] - 1)) > 10 * CLOSE:
        return f"{NO_RULE}: its shares are not those of the mean"
    kept = [keep for _, keep, _ in variances[1:]]  # before the first batch there is no old value
    for keep, share in zip(kept, shares[1:], strict=True):
        if abs(keep - 1 + share) > 10 * CLOSE:
            return f"{NO_RULE}: of the old value it keeps {keep:.3g}, not {1 - share:.3g}"
    word = biased_or_not(ratios[0], 4)
    return word if word != "unbiased" else _counted(subject, answers, shares[0])


def _counted(subject, answers, share):
    """Of a map, m is examples times places, as Sec. 3.2 says; by examples alone is a variant."""
    x = (normal(8, 3, 12, 2, 2) * np.linspace(0.5, 2, 12)[:, None, None]).astype(answers["dtype"])
    try:
        step = subject.train(x, *ones(12, answers))
    except Trouble:
        return "unbiased"
    fit = _fit(judge.moments(x)[1], None, step.var)
    if fit is None or abs(fit[0] / share / (12 / 11) - 1) < 10 * CLOSE:
        return "unbiased"
    if abs(fit[0] / share / (3 / 2) - 1) < 10 * CLOSE:
        return "unbiased, by the number of examples"
    return f"unbiased, but {fit[0] / share:.3g} times in maps of 12 values a channel"


def running(answers) -> Running | None:
    """The rule for running values by which they are judged; None where none was found."""
    weight, begins = answers.get("new_weight"), answers.get("start", "")
    if weight != "1 / batches" and not isinstance(weight, float):
        return None
    word = answers.get("running_variance")
    if word not in ("biased", "unbiased"):
        return None
    kept = {"unbiased": word == "unbiased"}
    if weight == "1 / batches":
        return Running(None, "first batch", **kept)
    if "debiased" in begins:
        return Running(weight, "debiased", **kept)
    if "first batch" in begins:
        return Running(weight, "first batch", **kept)
    mean, var = (float(part.split()[-1]) for part in begins.split(","))
    return Running(weight, "values", mean, var, **kept)


# ---- Inference -----------------------------------------------------------------------------------


@question
def inference_uses(subject, answers):
    """Which statistics inference normalizes by."""
    if not subject.infers:
        return "not given"
    _, steps = _three_steps(subject, answers)
    gamma, beta = ones(12, answers)
    x = (3 + 2 * normal(9, 5, 12)).astype(answers["dtype"])
    y = subject.infer(x, gamma, beta, steps[-1].state).y
    candidates = {"the batch": judge.train(x, gamma, beta, rule=rule(answers)).y}
    if steps[-1].mean is not None and steps[-1].var is not None:
        values = (steps[-1].mean, steps[-1].var)
        candidates["running values"] = judge.infer(x, gamma, beta, *values, rule=rule(answers)).y
    return nearest(y, candidates)


@question
def inference_epsilon(subject, answers):
    """ε at inference, from how much y moves with x; seen only beside a variance near 1."""
    if answers.get("inference_uses") != "running values":
        return "not asked: inference uses no running values that were reported"
    _, steps = _three_steps(subject, answers)
    gamma, beta = ones(12, answers)
    x = np.stack([np.full(12, -4), np.full(12, 4)]).astype(answers["dtype"])
    y = np.asarray(subject.infer(x, gamma, beta, steps[-1].state).y, np.float64)
    divided_by, var = 8 / (y[1] - y[0]), np.asarray(steps[-1].var, np.float64)
    place = answers.get("epsilon_place")
    values = divided_by - np.sqrt(var) if place == OUTSIDE else divided_by**2 - var
    noise = 8 * SPACING[answers["dtype"]] * np.max(var)
    value = float(np.median(values))
    if noise > 0.05 * abs(value):
        return "as in training" if abs(value - answers["epsilon"]) < noise else NO_RULE
    return "as in training" if abs(value - answers["epsilon"]) < 0.06 * value else rounded(value, 2)
