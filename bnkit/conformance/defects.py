"""Errors, in spacings of the dtype, beside what the reference reaches in that dtype.

First on an ordinary batch, then where batch normalization is known to lose digits. A result that is
wrong on an ordinary batch is not held against the later probes: one mistake, one line.
"""

import numpy as np

from bnkit import reference
from bnkit.conformance import judge, recipe, running
from bnkit.conformance.findings import LIMIT, Finding, Probe, into, measured
from bnkit.conformance.session import Case, batch, errors
from bnkit.conformance.step import spacings

PROBES: dict[str, Probe] = {}
probe = into(PROBES)


def _one(name, result, subject, session, dtype) -> Finding:
    found, best = session.ordinary(subject, dtype)
    if result not in found:
        return Finding(name, dtype, None, note="not reported")
    return measured(name, dtype, found[result], best.get(result))


# ---- An ordinary batch ---------------------------------------------------------------------------


@probe("float64", "float32", "float16", "bfloat16")
def forward(subject, session, dtype):
    """y on an ordinary batch of 24 examples and 5 features."""
    return _one("forward", "y", subject, session, dtype)


@probe("float64", "float32", "float16", "bfloat16")
def dx(subject, session, dtype):
    """∂ℓ/∂x on the ordinary batch."""
    return _one("dx", "dx", subject, session, dtype)


@probe("float64", "float32", "float16", "bfloat16")
def dgamma(subject, session, dtype):
    """∂ℓ/∂γ on the ordinary batch."""
    return _one("dgamma", "dgamma", subject, session, dtype)


@probe("float64", "float32", "float16", "bfloat16")
def dbeta(subject, session, dtype):
    """∂ℓ/∂β on the ordinary batch."""
    return _one("dbeta", "dbeta", subject, session, dtype)


@probe()
def maps(subject, session, dtype):
    """All four results on feature maps, (4, 3, 5, 6): statistics over examples and places."""
    return session.maps(subject, dtype)


@probe()
def zero_gamma(subject, session, dtype):
    """All four where some γ are 0: x̂ cannot be had back from y."""
    return session.worst("zero_gamma", subject, Case(dtype, (24, 5), seed=1, change=_zero_gamma))


def _zero_gamma(x, gamma, beta, dy):
    return x, np.where(np.arange(len(gamma)) % 2, 0, gamma), beta, dy


@probe()
def later_steps(subject, session, dtype):
    """All four on the ordinary batch in steps two to four: training does not use running values."""
    if session.answers["training_uses"].startswith("running values"):
        return Finding("later_steps", dtype, None, note="training uses running values")
    case = Case(dtype, (24, 5))
    return session.worst("later_steps", subject, case, compare=session.later)


# ---- Running values and inference ----------------------------------------------------------------


def _trained(subject, dtype, count=4):
    """The last step of a short training, and its batches."""
    batches, state, step = [], None, None
    for seed in range(count):
        x, gamma, beta, dy = batch(dtype, 24, 5, mean=1 - seed, seed=10 + seed)
        step = subject.train(x, gamma, beta, dy, state)
        state = step.state
        batches.append(x)
    return batches, step, (gamma, beta)


@probe()
def running_values(subject, session, dtype):
    """Running mean and variance after four batches, by the conventions that were inferred."""
    batches, step, _ = _trained(subject, dtype)
    if session.running is None:
        holds, why = running.unruly(session.answers)
        return Finding("running_values", dtype, holds, note=why)
    right = judge.observe(batches, session.running)
    found = {
        "mean": spacings(step.mean, right[0], dtype),
        "var": spacings(step.var, right[1], dtype),
    }
    name = max(found, key=found.get)
    note = "" if found[name] <= LIMIT else f"in {name}"
    return measured("running_values", dtype, found[name], note=note)


def _inference(name, result, subject, session, dtype):
    if not subject.infers:
        return Finding(name, dtype, None, note="no function for inference was given")
    _, last, (gamma, beta) = _trained(subject, dtype)
    if last.mean is None or last.var is None:
        return Finding(name, dtype, None, note="running values are not reported")
    if session.answers.get("inference_uses") != "running values":
        return Finding(name, dtype, None, note="inference uses no running values")
    x, _, _, dy = batch(dtype, 8, 5, seed=20)
    step = subject.infer(x, gamma, beta, last.state, dy)
    if getattr(step, result) is None:
        return Finding(name, dtype, None, note="not reported")
    rule = recipe.at_inference(session.answers)
    right = judge.infer(x, gamma, beta, last.mean, last.var, dy, rule)
    best = _best_inference(x, gamma, beta, last, rule.epsilon) if result == "y" else None
    return measured(name, dtype, errors(step, right, dtype)[result], best)


def _best_inference(x, gamma, beta, last, epsilon):
    """The error of the reference's inference in x's dtype."""
    try:
        population = reference.Population(last.mean, last.var, 1)
        y = reference.infer(x, gamma, beta, population, epsilon)
    except ValueError:
        return None
    right = judge.infer(x, gamma, beta, last.mean, last.var, rule=judge.Rule(epsilon))
    return spacings(y, right.y, str(x.dtype))


@probe()
def inference(subject, session, dtype):
    """y at inference, by the running values that training has left."""
    return _inference("inference", "y", subject, session, dtype)


@probe()
def inference_dx(subject, session, dtype):
    """∂ℓ/∂x at inference: γ / √(Var + ε) times ∂ℓ/∂y, as for frozen batch normalization."""
    return _inference("inference_dx", "dx", subject, session, dtype)


@probe()
def inference_dgamma(subject, session, dtype):
    """∂ℓ/∂γ at inference."""
    return _inference("inference_dgamma", "dgamma", subject, session, dtype)


@probe()
def inference_dbeta(subject, session, dtype):
    """∂ℓ/∂β at inference."""
    return _inference("inference_dbeta", "dbeta", subject, session, dtype)


@probe()
def moved_weights(subject, session, dtype):
    """y at inference with weights moved here from layers with ε = 1e-3 and 1e-5, by the recipe."""
    if session.load is None or not subject.infers:
        return Finding("moved_weights", dtype, None, note="no function to load them was given")
    if session.answers.get("inference_uses") != "running values":
        return Finding("moved_weights", dtype, None, note="inference uses no running values")
    if session.findings.get(("inference", dtype)) is False:
        return Finding("moved_weights", dtype, None, note="not asked: inference is wrong")
    x, gamma, beta, _ = batch(dtype, 8, 5, seed=30)
    mean, var = np.array([0, 1, -2, 0.5, 0]), np.array([0, 1e-4, 0.01, 1, 9])
    worst, target = 0.0, recipe.at_inference(session.answers)
    for epsilon in (1e-3, 1e-5):
        source = judge.Rule(epsilon)
        right = judge.infer(x, gamma, beta, mean, var, rule=source).y
        moved = recipe.move(recipe.Weights(gamma, beta, mean, var), source, target)
        scale, shift, *values = (v.astype(dtype) for v in moved)
        y = subject.infer(x, scale, shift, session.load(*values)).y
        worst = max(worst, spacings(y, right, dtype))
    return measured("moved_weights", dtype, worst)


# ---- Where digits are lost -----------------------------------------------------------------------


@probe("float32")
def large_mean(subject, session, dtype):
    """y at mean 100, deviation 0.1, in maps; what rounding the mean costs, 1000 spacings, is free."""
    case = Case(dtype, (16, 3, 64, 64), mean=100, deviation=0.1)
    return session.worst("large_mean", subject, case, ["y"], limit=1000)


@probe("float32")
def larger_mean(subject, session, dtype):
    """y at mean 1e4, deviation 0.01, in maps: the mean, rounded to a float32, is not good enough."""
    case = Case(dtype, (16, 3, 64, 64), mean=1e4, deviation=0.01)
    finding = session.worst("larger_mean", subject, case, ["y"])
    if session.findings.get(("large_mean", dtype)) is False:
        return finding._replace(holds=None, note="")  # one mistake, one line; the number stays
    return finding


@probe("float32")
def tiny_scale(subject, session, dtype):
    """y and ∂ℓ/∂x at deviation 1e-12, which ε outweighs; β is 0."""
    case = Case(dtype, (24, 5), mean=0, deviation=1e-12, change=_zero_beta)
    return session.worst("tiny_scale", subject, case, ["y", "dx"])


def _zero_beta(x, gamma, beta, dy):
    return x, gamma, 0 * beta, dy


@probe("float32")
def huge_scale(subject, session, dtype):
    """y and ∂ℓ/∂x at deviation 1e15: σ² is a float32, its power −3/2 is not."""
    case = Case(dtype, (24, 5), mean=0, deviation=1e15)
    return session.worst("huge_scale", subject, case, ["y", "dx"])


@probe("float32")
def constant_channel(subject, session, dtype):
    """y where every value is −7e5: it should be β, which is 1."""
    return session.worst("constant_channel", subject, Case(dtype, (24, 5), change=_constant), ["y"])


def _constant(x, gamma, beta, dy):
    return np.full_like(x, -7e5), gamma, np.ones_like(beta), dy


@probe("float32")
def long_sums(subject, session, dtype):
    """All four where a channel has 2^18 values, in maps; ∂ℓ/∂y is such that no sum cancels."""
    case = Case(dtype, (128, 2, 32, 64), change=_gradient_along)
    return session.worst("long_sums", subject, case)


def _gradient_along(x, gamma, beta, dy):
    return x, gamma, beta, dy + 4 + 4 * (x - 0.5)


@probe("float16")
def float16_range(subject, session, dtype):
    """y at deviation 500: σ² is beyond 65504, the largest float16."""
    return session.worst("float16_range", subject, Case(dtype, (24, 5), deviation=500), ["y"])


@probe("float16")
def float16_sum(subject, session, dtype):
    """y at mean 200, 2048 values a channel: their sum is beyond 65504."""
    case = Case(dtype, (2048, 2), mean=200, deviation=20)
    return session.worst("float16_sum", subject, case, ["y"])
