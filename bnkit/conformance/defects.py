"""Errors, in spacings of the dtype, beside what the reference reaches in that dtype.

First on an ordinary batch, then where batch normalization is known to lose digits. A result that is
wrong on an ordinary batch is not held against the later probes: one mistake, one line.
"""

import numpy as np

from bnkit import reference
from bnkit.conformance import conventions, judge, recipe
from bnkit.conformance.findings import LIMIT, Finding, measured, probe
from bnkit.conformance.step import Step, spacings

RESULTS = ("y", "dx", "dgamma", "dbeta")


def batch(dtype, *shape, mean=0.5, deviation=1.0, seed=0):
    """x, gamma, beta, dy in `dtype`; channels of unlike means and spreads, a γ below zero."""
    rng = np.random.default_rng([seed, *shape])
    column = (-1, *[1] * (len(shape) - 2))
    d = shape[1]
    x = mean + deviation * rng.normal(size=shape) * rng.uniform(0.5, 2, d).reshape(column)
    gamma = rng.uniform(0.5, 2, d) * np.where(np.arange(d) % 2, -1, 1)
    arrays = x, gamma, rng.normal(size=d), rng.normal(size=shape)
    if dtype == "bfloat16":
        return tuple(judge.to_bfloat16(array) for array in arrays)
    return tuple(array.astype(dtype) for array in arrays)


def reference_step(x, gamma, beta, dy, dtype, epsilon) -> Step | None:
    """The reference in the batch's own dtype; None where it refuses."""
    try:
        y, cache = reference.forward(x, gamma, beta, epsilon)
        results = (y, *reference.backward(dy, cache))
    except ValueError:
        return None
    if dtype == "bfloat16":
        results = map(judge.to_bfloat16, results)
    return Step(*results)


def errors(step: Step, right: Step, dtype, scale=None) -> dict[str, float]:
    """Spacings of each result that was returned."""
    pairs = {name: (getattr(step, name), getattr(right, name)) for name in RESULTS}
    return {
        name: spacings(found, expected, dtype, scale if name == "y" else None)
        for name, (found, expected) in pairs.items()
        if found is not None
    }


class Session:
    """What the probes of one examination share: the answers so far, and what is known as wrong."""

    def __init__(self, answers, train_in_bfloat16=None, load=None):
        self.answers = answers
        self.rule = conventions.rule(answers)
        self.running = conventions.running(answers)
        self.bfloat16, self.load = train_in_bfloat16, load
        self.wrong: dict[str, set[str]] = {}
        """dtype -> results that are wrong on an ordinary batch."""
        self.findings: dict[tuple[str, str], bool | None] = {}
        """(probe, dtype) -> whether it held, so far."""
        self._ordinary: dict[str, tuple[dict, dict]] = {}

    def compare(self, subject, arguments, dtype, scale=None):
        """A step's errors and those of the reference, both by result."""
        train = self.bfloat16.train if dtype == "bfloat16" else subject.train
        step = train(*arguments)
        right = judge.train(*arguments, rule=self.rule)
        best = reference_step(*arguments, dtype, self.rule.epsilon)
        paper = judge.train(*arguments, rule=judge.Rule(self.rule.epsilon))
        best = {} if best is None else errors(best, paper, dtype, scale)
        return errors(step, right, dtype, scale), best

    def ordinary(self, subject, dtype):
        """The errors on the ordinary batch, measured once."""
        if dtype not in self._ordinary:
            arguments = batch(dtype, 24, 5)
            self._ordinary[dtype] = self.compare(subject, arguments, dtype)
            found, _ = self._ordinary[dtype]
            self.wrong[dtype] = {k for k, v in found.items() if not v <= LIMIT}
        return self._ordinary[dtype]

    def worst(self, name, subject, arguments, dtype, results=RESULTS, scale=None) -> Finding:
        """The worst of some results on a batch, less those that are wrong anyway."""
        self.ordinary(subject, dtype)
        asked = [r for r in results if r not in self.wrong[dtype]]
        if not asked:
            return Finding(name, dtype, None, note="not asked: wrong on an ordinary batch")
        found, best = self.compare(subject, arguments, dtype, scale)
        found = {k: v for k, v in found.items() if k in asked}
        if not found:
            return Finding(name, dtype, None, note="not reported")
        result = max(found, key=found.get)
        note = "" if found[result] <= LIMIT else f"in {result}"
        return measured(name, dtype, found[result], best.get(result), note)


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
    return session.worst("maps", subject, batch(dtype, 4, 3, 5, 6), dtype)


@probe()
def zero_gamma(subject, session, dtype):
    """All four where some γ are 0: x̂ cannot be had back from y."""
    x, gamma, beta, dy = batch(dtype, 24, 5, seed=1)
    gamma[[1, 3]] = 0
    return session.worst("zero_gamma", subject, (x, gamma, beta, dy), dtype)


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
    if session.running is None:
        return Finding("running_values", dtype, None, note="no rule for them was found")
    batches, step, _ = _trained(subject, dtype)
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
    right = judge.infer(x, gamma, beta, last.mean, last.var, dy, session.rule)
    best = (
        _best_inference(x, gamma, beta, last, dy, session.rule.epsilon) if result == "y" else None
    )
    return measured(name, dtype, errors(step, right, dtype)[result], best)


def _best_inference(x, gamma, beta, last, dy, epsilon):
    population = reference.Population(last.mean, last.var, 1)
    try:
        y = reference.infer(x, gamma, beta, population, epsilon)
    except ValueError:
        return None
    return spacings(y, judge.infer(x, gamma, beta, last.mean, last.var, dy,
                                   judge.Rule(epsilon)).y, str(x.dtype))  # fmt: skip


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
    """y at mean 100 and deviation 0.1, maps of (16, 3, 64, 64)."""
    arguments = batch(dtype, 16, 3, 64, 64, mean=100, deviation=0.1)
    return session.worst("large_mean", subject, arguments, dtype, ["y"])


@probe("float32")
def larger_mean(subject, session, dtype):
    """y at mean 1e4 and deviation 0.01, a tenth of which is lost when the mean is rounded."""
    arguments = batch(dtype, 16, 3, 64, 64, mean=1e4, deviation=0.01)
    return session.worst("larger_mean", subject, arguments, dtype, ["y"])


@probe("float32")
def tiny_scale(subject, session, dtype):
    """y and ∂ℓ/∂x at deviation 1e-12, which ε outweighs."""
    arguments = batch(dtype, 24, 5, mean=0, deviation=1e-12)
    scale = None if not session.rule.epsilon else 1.0
    return session.worst("tiny_scale", subject, arguments, dtype, ["y", "dx"], scale)


@probe("float32")
def huge_scale(subject, session, dtype):
    """y and ∂ℓ/∂x at deviation 1e15: σ² is a float32, its square and its cube are not."""
    arguments = batch(dtype, 24, 5, mean=0, deviation=1e15)
    return session.worst("huge_scale", subject, arguments, dtype, ["y", "dx"])


@probe("float32")
def constant_channel(subject, session, dtype):
    """y where every value is −7e5: it should be β, and 1 is what its error is counted in."""
    x, gamma, beta, dy = batch(dtype, 24, 5)
    arguments = np.full_like(x, -7e5), gamma, beta, dy
    return session.worst("constant_channel", subject, arguments, dtype, ["y"], scale=1.0)


@probe("float32")
def long_sums(subject, session, dtype):
    """All four where a channel has 2^19 values."""
    return session.worst("long_sums", subject, batch(dtype, 128, 2, 32, 64), dtype)


@probe("float16")
def float16_range(subject, session, dtype):
    """y at deviation 500: σ² is beyond 65504, the largest float16."""
    arguments = batch(dtype, 24, 5, deviation=500)
    return session.worst("float16_range", subject, arguments, dtype, ["y"])


@probe("float16")
def float16_sum(subject, session, dtype):
    """y at mean 200, 2048 values a channel: their sum is beyond 65504."""
    arguments = batch(dtype, 2048, 2, mean=200, deviation=20)
    return session.worst("float16_sum", subject, arguments, dtype, ["y"])
