"""Implementations with another face, turned into steps: the face of ``bnkit.reference``."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bnkit.conformance.step import Step
from bnkit.reference import Population


def of_reference(bn: Any, new_weight: float = 0.1, eps: float = 1e-5) -> tuple[Callable, Callable]:
    """Step and inference of anything with the face of ``bnkit.reference``, which starts as torch.

    γ and β may be left out, as 1 and 0; the reference itself has no gradients of inference.
    """

    def filled(x, gamma, beta):
        d = x.shape[1]
        return np.ones(d, x.dtype) if gamma is None else gamma, (
            np.zeros(d, x.dtype) if beta is None else beta
        )

    def step(x, gamma, beta, dy, state):
        d = x.shape[1]
        population = Population(np.zeros(d), np.ones(d), 0) if state is None else state
        y, cache = bn.forward(x, *filled(x, gamma, beta), eps)
        population = bn.observe(population, x, new_weight)
        return Step(y, *bn.backward(dy, cache), population.mean, population.var, population)

    def infer(x, gamma, beta, dy, state):
        y = bn.infer(x, *filled(x, gamma, beta), state, eps)
        return Step(y, mean=state.mean, var=state.var, state=state)

    return step, infer
