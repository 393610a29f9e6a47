"""Batch normalization by any of the usual conventions: a right implementation of each.

For tests of the examination, which has to infer what is set here, and for whoever wants to compute
what another library computes. By way of the judge, in float64 and more, rounded once at the end.
"""

import numpy as np

from bnkit.conformance import judge
from bnkit.conformance.judge import Rule, Running
from bnkit.conformance.step import Step


class Variant:
    """One convention. ``step`` and ``infer`` are the two functions that ``examine`` takes.

    The state is ``(mean, var, batches)``. NaN and infinity stay in their channel. Without γ or β
    they are 1 and 0.
    """

    def __init__(
        self,
        rule: Rule = judge.PAPER,
        running: Running | None = None,
        axis: int = 1,
        least: int = 2,
    ) -> None:
        self.rule, self.running, self.axis = rule, running or Running(), axis
        self.least = least
        """Values a channel that it asks for: with 2 one is refused, with 1 none, with 0 nothing."""

    def step(self, x, gamma, beta, dy, state) -> Step:
        """A training step. Shapes: x and dy with features on this variant's axis."""
        x, dy = (np.moveaxis(a, self.axis, 1) for a in (x, dy))
        if x.size // x.shape[1] < self.least:
            raise ValueError(f"x has shape {x.shape}; {self.least} values a channel are needed.")
        gamma, beta = self.filled(x, gamma, beta)
        y, dx, dgamma, dbeta, *_ = self.normalised(x, gamma, beta, dy)
        mean, var, batches = self.observed(self.begun(x) if state is None else state, x)
        y, dx = (np.moveaxis(a.astype(x.dtype), 1, self.axis) for a in (y, dx))
        return Step(y, dx, dgamma.astype(x.dtype), dbeta.astype(x.dtype), mean, var,
                    (mean, var, batches))  # fmt: skip

    def infer(self, x, gamma, beta, dy, state) -> Step:
        """Inference by the running values of `state`, with gradients."""
        x, dy = (np.moveaxis(a, self.axis, 1) for a in (x, dy))
        gamma, beta = self.filled(x, gamma, beta)
        mean, var = self.at_inference(x, state)
        y, dx, dgamma, dbeta, *_ = judge.infer(x, gamma, beta, mean, var, dy, self.rule)
        y, dx = (np.moveaxis(a.astype(x.dtype), 1, self.axis) for a in (y, dx))
        return Step(y, dx, dgamma.astype(x.dtype), dbeta.astype(x.dtype), *state[:2], state)

    def load(self, mean, var):
        """A state of running values that come from elsewhere."""
        return np.asarray(mean), np.asarray(var), 1

    # ---- The steps, each to be done wrong by a mutant ----

    def filled(self, x, gamma, beta):
        d = x.shape[1]
        return np.ones(d) if gamma is None else gamma, np.zeros(d) if beta is None else beta

    def normalised(self, x, gamma, beta, dy) -> Step:
        if not x.size:
            return Step(x, dy, gamma * 0, beta * 0)
        return judge.train(x, gamma, beta, dy, self.rule)

    def begun(self, x):
        """What is there before the first batch."""
        d = x.shape[1]
        return np.full(d, self.running.mean), np.full(d, self.running.var), 0

    def observed(self, state, x):
        mean, var, batches = state
        if not x.size:
            return state
        share = self.running.shares(batches + 1)[-1]
        new_mean, new_var = self.statistics(x)
        return self.blend(mean, new_mean, share), self.blend(var, new_var, share), batches + 1

    def blend(self, old, new, share):
        """What was there counts for nothing where its share is 0, be it NaN."""
        return new if share == 1 else (1 - share) * old + share * new

    def statistics(self, x):
        m = x.size // x.shape[1]
        mean, var = judge.moments(x)
        return mean, var * (m / max(m - 1, 1) if self.running.unbiased else 1)

    def at_inference(self, x, state):
        return state[:2]
