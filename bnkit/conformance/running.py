"""Conventions of running values and of inference, inferred from what three batches leave."""

import numpy as np

from bnkit.conformance import averages, judge
from bnkit.conformance.judge import OUTSIDE, Running
from bnkit.conformance.questions import (
    CLOSE,
    NO_RULE,
    NOT_REPORTED,
    Question,
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
NEVER = "they never change"
BY_EXAMPLES = "unbiased, by the number of examples"
FAINT = "cannot be told: the changes have too few digits"


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


@question
def new_weight(subject, answers):
    """The share of a new batch in the running value, once it is under way."""
    batches, steps = _three_steps(subject, answers)
    names = {"mean": "mean", "var": "variance"}
    reported = [names[n] for n in names if all(getattr(step, n) is not None for step in steps)]
    if len(reported) < 2:
        alone = f"not asked: the {reported[0]} alone is reported" if reported else NOT_REPORTED
        answers["unreported"] = alone
        return alone
    mean, var = answers["averages"] = [averages.of(batches, steps, n) for n in ("mean", "var")]
    if mean.untouched:
        if not var.untouched:
            return "the mean never changes"
        return 0.0 if _asked_for_none(answers) else NEVER
    if mean.still:
        return averages.FROZEN
    if not mean.fitted:
        return FAINT if _faint(mean, answers) else NO_RULE
    return averages.weight_and_start(mean.shares)[0]


def _asked_for_none(answers) -> bool:
    """Whether a new batch is to count for nothing: that is a momentum of 0, or, of the old, 1."""
    return answers.get("momentum given") in (0, 1)


@question
def momentum(subject, answers):
    """What the library calls momentum: the share of the new batch or of the old value."""
    given, weight = answers.get("momentum given"), answers.get("new_weight")
    if given is None:
        return "not given"
    if weight == "1 / batches":
        return f"{NO_RULE}: it is {given:g}, the new batch has {weight}"
    if not isinstance(weight, float):
        return f"cannot be told: it is {given:g}, and the share of the new batch is not known"
    if abs(given - weight) < CLOSE:
        return "share of the new batch"
    if abs(1 - given - weight) < CLOSE:
        return "share of the old value"
    return f"{NO_RULE}: it is {given:g}, the new batch has {weight:g}"


@question
def start(subject, answers):
    """What is there before the first batch, or how its share is made up for."""
    if "averages" not in answers:
        return answers.get("unreported", NOT_REPORTED)
    mean, var = answers["averages"]
    known = averages.variance(mean, var)
    begins = averages.weight_and_start(mean.shares)[1] if mean.fitted else ""
    word = begins or _value("mean", mean, 1 - mean.shares[0] if mean.fitted else None)
    if known.own and (other := averages.weight_and_start(known.shares)[1]):
        return f"{word}, variance: {other}"
    if not begins or known.own or var.untouched:
        return f"{word}, {_value('variance', var, _left(mean, var, known))}"
    rest = var.fits[0].rest if var.fits[0] else 0.0
    if abs(rest) > CLOSE:
        return f"{word}, but {rounded(rest, 3):g} is added to the variance"
    return word


def _left(mean, var, known):
    """The part of its start that the first batch leaves in a running variance."""
    if known.shares:
        return 1 - known.shares[0]
    if not var.still and var.fits[1] and var.fits[1].keep > CLOSE:
        return var.fits[1].keep  # as every later batch does
    return 1 - mean.shares[0] if mean.fitted else None


def _value(name, average, left):
    """The value with which an average begins, by the part of it that the first batch leaves."""
    if average.untouched:
        return f"{name} {averages.tidy(average.values[0][0]):g}"
    if average.fits[0] is None or left is None:
        return f"{name} not known"
    return f"{name} {averages.tidy(average.fits[0].rest / left):g}"


@question
def running_variance(subject, answers):
    """Whether the variance is kept with m (biased) or m − 1 (unbiased), and what m counts."""
    if "averages" not in answers:
        return answers.get("unreported", NOT_REPORTED)
    known = averages.variance(*answers["averages"])
    if known.own:
        weight, begins = averages.weight_and_start(known.shares)
        rule = f"share {weight}, {begins}" if begins else f"share {weight}"
        return f"{known.kept}, by a rule of its own: {rule}"
    if known.kept.startswith(NO_RULE) and _faint(answers["averages"][1], answers):
        return FAINT
    if known.kept != "unbiased":
        return known.kept
    return _counted(subject, answers, known.shares[0])


def _counted(subject, answers, share):
    """Of a map, m is examples times places, as Sec. 3.2 says; by examples alone is a variant."""
    x = (normal(8, 3, 12, 2, 2) * np.linspace(0.5, 2, 12)[:, None, None]).astype(answers["dtype"])
    try:
        step = subject.train(x, *ones(12, answers))
    except Trouble:
        return "unbiased"
    if step.var is None:
        return "unbiased"
    fit = averages.fit(judge.moments(x)[1], None, step.var)
    if fit is None or abs(fit.share / share / (12 / 11) - 1) < 10 * CLOSE:
        return "unbiased"
    if abs(fit.share / share / (3 / 2) - 1) < 10 * CLOSE:
        return BY_EXAMPLES
    return f"unbiased, but {fit.share / share:.3g} times in maps of 12 values a channel"


def running(answers) -> Running | None:
    """The rule for running values by which they are judged; None where none was found."""
    weight, begins = answers.get("new_weight"), answers.get("start", "")
    if weight != "1 / batches" and not isinstance(weight, float):
        return None
    word = answers.get("running_variance")
    kept = {"unbiased": word in ("unbiased", BY_EXAMPLES)}
    if word not in ("biased", "unbiased", BY_EXAMPLES) and weight != 0:
        return None
    if weight == "1 / batches":
        return Running(None, "first batch", **kept)
    if "debiased" in begins:
        return Running(weight, "debiased", **kept)
    if "first batch" in begins:
        return Running(weight, "first batch", **kept)
    mean, var = (float(part.split()[-1]) for part in begins.split(","))
    return Running(weight, "values", mean, var, **kept)


def unruly(answers) -> tuple[bool | None, str]:
    """Of values without a rule: False where that is a mistake, else None; and in words why."""
    if "averages" not in answers:
        return None, answers.get("unreported", answers["new_weight"])
    if answers["new_weight"] == NEVER:
        return False, NEVER
    said = {}
    for name in ("new_weight", "running_variance"):
        value = answers[name]
        if isinstance(value, str) and value not in ("1 / batches", "biased", "unbiased"):
            said.setdefault(value, []).append(name)
    mean, var = answers["averages"]
    lost = FAINT in said or (var.still and _faint(mean, answers))
    why = "; ".join(f"{' and '.join(names)}: {value}" for value, names in said.items())
    return (None if lost else False), why


def _faint(average, answers) -> bool:
    return average.faint(answers["dtype"])


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
    if not isinstance(answers["epsilon"], float):
        return rounded(value, 2) if noise < 0.05 * abs(value) else "cannot be told"
    if noise > 0.05 * abs(value):
        return "as in training" if abs(value - answers["epsilon"]) < noise else NO_RULE
    return "as in training" if abs(value - answers["epsilon"]) < 0.06 * value else rounded(value, 2)
