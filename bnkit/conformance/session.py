"""What the probes of defects share: batches, right answers, and what is known as wrong already."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bnkit import reference
from bnkit.conformance import judge, running
from bnkit.conformance.findings import LIMIT, Finding, measured
from bnkit.conformance.questions import rule
from bnkit.conformance.step import Step, spacings

RESULTS = ("y", "dx", "dgamma", "dbeta")


class Case(NamedTuple):
    """A batch to examine with, by what makes it."""

    dtype: str
    shape: tuple[int, ...]
    mean: float = 0.5
    deviation: float = 1.0
    seed: int = 0
    change: Callable | None = None
    """(x, gamma, beta, dy) -> the same, with what makes the case."""

    def arguments(self):
        """x, gamma, beta, dy; channels of unlike means and spreads, every second γ below zero."""
        if self.dtype == "bfloat16":
            return tuple(judge.to_bfloat16(array) for array in _drawn(self))
        return tuple(array.astype(self.dtype) for array in _drawn(self))


@lru_cache(maxsize=32)  # every subject gets copies of its own
def _drawn(case: Case) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng([case.seed, *case.shape])
    column = (-1, *[1] * (len(case.shape) - 2))
    d = case.shape[1]
    spread = case.deviation * rng.uniform(0.5, 2, d).reshape(column)
    x = case.mean + rng.normal(size=case.shape) * spread
    gamma = rng.uniform(0.5, 2, d) * np.where(np.arange(d) % 2, -1, 1)
    arrays = x, gamma, rng.normal(size=d), rng.normal(size=case.shape)
    return case.change(*arrays) if case.change else arrays


def batch(dtype, *shape, **settings):
    """The arguments of a case."""
    return Case(dtype, shape, **settings).arguments()


@lru_cache(maxsize=32)  # the same for every subject of the same rule
def expected(case: Case, rule: judge.Rule) -> tuple[Step, dict[str, float]]:
    """The right step, and the errors of the reference in the case's own dtype, where it answers."""
    x, gamma, beta, dy = case.arguments()
    right = judge.train(x, gamma, beta, dy, rule)
    try:
        y, cache = reference.forward(x, gamma, beta, rule.epsilon)
        results = (y, *reference.backward(dy, cache))
    except ValueError:
        return right, {}
    if case.dtype == "bfloat16":
        results = map(judge.to_bfloat16, results)
    paper = judge.train(x, gamma, beta, dy, judge.Rule(rule.epsilon))
    return right, errors(Step(*results), paper, case.dtype)


def errors(step: Step, right: Step, dtype) -> dict[str, float]:
    """Spacings of each result that was returned."""
    pairs = {name: (getattr(step, name), getattr(right, name)) for name in RESULTS}
    return {n: spacings(a, b, dtype) for n, (a, b) in pairs.items() if a is not None}


class Session:
    """What the probes of one examination share: the answers so far, and what is known as wrong."""

    def __init__(self, answers, load=None):
        self.answers = answers
        self.rule = rule(answers)
        self.running = running.running(answers)
        self.load = load
        self.wrong: dict[str, set[str]] = {}
        """dtype -> results that are wrong on an ordinary batch."""
        self.findings: dict[tuple[str, str], bool | None] = {}
        """(probe, dtype) -> whether it held, so far."""
        self.wrong_maps: dict[str, set[str]] = {}
        """The same on maps."""
        self._ordinary: dict[str, tuple[dict, dict]] = {}

    def compare(self, subject, case: Case):
        """A step's errors and those of the reference, both by result."""
        train = subject.in_bfloat16 if case.dtype == "bfloat16" else subject.train
        right, best = expected(case, self.rule)
        return errors(train(*case.arguments()), right, case.dtype), best

    def later(self, subject, case: Case):
        """The same of the second to fourth step, after a first on another batch: the largest."""
        right, best = expected(case, self.rule)
        other = case._replace(mean=case.mean + 1, seed=case.seed + 1)
        step, worst = subject.train(*other.arguments()), {}
        reported = errors(step, right, case.dtype).keys()
        for _ in range(3):
            step = subject.train(*case.arguments(), step.state)
            found = dict.fromkeys(reported, np.inf) | errors(step, right, case.dtype)
            worst = {name: max(error, worst.get(name, 0.0)) for name, error in found.items()}
        return worst, best

    def ordinary(self, subject, dtype):
        """The errors on the ordinary batch, measured once."""
        if dtype not in self._ordinary:
            self._ordinary[dtype] = self.compare(subject, Case(dtype, (24, 5)))
            found, _ = self._ordinary[dtype]
            self.wrong[dtype] = {k for k, v in found.items() if not v <= LIMIT}
        return self._ordinary[dtype]

    def worst(
        self, name, subject, case: Case, results=RESULTS, limit=LIMIT, compare=None
    ) -> Finding:
        """The worst of some results on a batch, less those that are wrong anyway.

        `compare` is another way to the errors than ``self.compare``, with its face.
        """
        if len(case.shape) > 2 and "no maps" in self.answers:
            case = case._replace(shape=(int(np.prod(case.shape)) // case.shape[1], case.shape[1]))
        dtype = case.dtype
        self.ordinary(subject, dtype)
        wrong = self.wrong[dtype]
        if len(case.shape) > 2 and name != "maps":
            wrong = wrong | self.wrong_maps.get(dtype, set(RESULTS))
        asked = [r for r in results if r not in wrong]
        if not asked:
            return Finding(name, dtype, None, note="not asked: wrong on a simpler batch")
        found, best = (compare or self.compare)(subject, case)
        found = {k: v for k, v in found.items() if k in asked}
        if not found:
            return Finding(name, dtype, None, note="not reported")
        result = max(found, key=found.get)
        note = "" if found[result] <= limit else f"in {result}"
        return measured(name, dtype, found[result], best.get(result), note, limit)

    def maps(self, subject, dtype) -> Finding:
        """The ordinary batch of maps. Until it has come back well no other map is asked about."""
        if "no maps" in self.answers:
            return Finding("maps", dtype, None, note="not asked: it takes no maps")
        case = Case(dtype, (4, 3, 5, 6))
        finding = self.worst("maps", subject, case)
        found, _ = self.compare(subject, case)
        self.wrong_maps[dtype] = {k for k, v in found.items() if not v <= LIMIT}
        return finding
