"""Conventions, inferred from what a step returns: where two right implementations may differ.

Each question is a function of a Subject and the answers so far. It returns a value to print and to
require; "not reported" and "not asked: why" are answers, too.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from bnkit.conformance import judge
from bnkit.conformance.judge import FLOOR, INSIDE, OUTSIDE, Rule, Running
from bnkit.conformance.step import SPACING, Subject, Trouble, spacings

NO_RULE = "no rule fits"
NOT_REPORTED = "not reported"
CLOSE = 1e-3  # relative; conventions that differ at all differ by more, batches are small for that

Answers = dict[str, Any]
QUESTIONS: dict[str, Callable[[Subject, Answers], Any]] = {}


def question(function):
    QUESTIONS[function.__name__] = function
    return function


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def ones(d, like):
    return np.ones(d, like["dtype"]), np.zeros(d, like["dtype"])


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
        return f"{NO_RULE}: neither axis 1 nor axis −1 is normalised"
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
    """Whether a batch is normalised by its variance with m (biased) or m − 1 (unbiased)."""
    var, divided_by = answers["divisors"] = divisors(subject, answers)
    return biased_or_not(divided_by[-1] ** 2 / var[-1], 4)


def biased_or_not(ratio, m):
    """A word for a variance that is `ratio` times the biased one of m values."""
    for word, factor in (("biased", 1.0), ("unbiased", m / (m - 1))):
        if abs(ratio / factor - 1) < 10 * CLOSE:
            return word
    return f"{NO_RULE}: {ratio:.3g} times the biased one"


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


def rounded(value, digits=4):
    """A measured setting without the noise of its measurement."""
    return float(f"{float(value):.{digits - 1}g}")


def rule(answers) -> Rule:
    """The rule by which defects are judged: what was found, else the paper's."""
    place = answers.get("epsilon_place")
    value = answers.get("epsilon")
    return Rule(
        value if isinstance(value, float) and np.isfinite(value) else 1e-5,
        place if place in (OUTSIDE, FLOOR) else INSIDE,
        answers.get("batch_variance") == "unbiased",
    )


@question
def training_uses(subject, answers):
    """Whether training normalises the second batch by itself or by running values."""
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
    return _nearest(after.y, candidates)


def _nearest(y, candidates):
    misses = {word: float(np.max(np.abs(y - right))) for word, right in candidates.items()}
    word = min(misses, key=misses.get)
    return word if misses[word] < 10 * CLOSE else NO_RULE


# ---- Running values ------------------------------------------------------------------------------


def _three_steps(subject, answers):
    """Three batches of 4, 12 channels of unlike means and variances, and the steps they make."""
    spread = np.linspace(0.5, 2, 12)
    batches = [
        (spread[rng.permutation(12)] * rng.normal(size=(4, 12)) + 3 * rng.normal(size=12)).astype(
            answers["dtype"]
        )
        for rng in map(np.random.default_rng, (5, 6, 7))
    ]
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
    if max(abs(v[0] / s / (variances[0][0] / shares[0]) - 1) for s, v in zip(
        shares, variances, strict=True
    )) > 10 * CLOSE:  # fmt: skip
        return f"{NO_RULE}: its shares are not those of the mean"
    word = biased_or_not(variances[0][0] / shares[0], 4)
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
    """Which statistics inference normalises by."""
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
    return _nearest(y, candidates)


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


def refused(trouble: Trouble) -> str:
    """ "refused (ValueError)": that it refuses is a convention, its words are not."""
    said = str(trouble)
    if not said.startswith("raised "):
        return said
    return f"refused ({said.removeprefix('raised ').split(':')[0]})"
