"""To move weights from one library to another: what changes, and what must not.

A network's answers stay what they were if each channel is still multiplied and shifted by the same
numbers. Only ε and its place stand in the way; whether the running variance was kept with m or with
m − 1 does not matter here, for it is used as it is.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bnkit.conformance import judge
from bnkit.conformance.judge import FLOOR, OUTSIDE, Rule
from bnkit.conformance.questions import rule


class Weights(NamedTuple):
    """What a trained layer holds; (d,) each."""

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    """Running mean."""
    var: np.ndarray
    """Running variance."""


def move(weights: Weights, source: Rule, target: Rule) -> Weights:
    """Weights that make a layer by rule `target` answer as these do by rule `source`.

    Inside the root: σ² + ε must stay, so ε − ε′ goes into the variance. Where that would leave less
    than nothing the variance is 0, and γ makes up for the rest. float64, exact but for rounding.
    """
    gamma, beta, mean, var = (np.asarray(v, np.float64) for v in weights)
    s, _ = judge.inverse_root(var, source)
    if target.place == OUTSIDE:
        moved = np.maximum(1 / s - target.epsilon, 0) ** 2
    elif target.place == FLOOR:
        moved = 1 / s**2
    else:
        moved = np.maximum(1 / s**2 - target.epsilon, 0)
    return Weights(gamma * s / judge.inverse_root(moved, target)[0], beta, mean, moved)


def between(weights: Weights, source: Mapping[str, Any], target: Mapping[str, Any]) -> Weights:
    """The same by the conventions of two cards."""
    return move(weights, at_inference(source), at_inference(target))


def at_inference(conventions: Mapping[str, Any]) -> Rule:
    """The rule of inference: that of training, with the ε of inference where it is another."""
    own, found = conventions.get("inference_epsilon"), rule(conventions)
    return found._replace(epsilon=own) if isinstance(own, float) else found


def momentum(source: Mapping[str, Any], target: Mapping[str, Any]) -> float | None:
    """The number that `target` calls momentum, for running values that follow as `source`'s do.

    None where either has none: no share was found, or it is not known which share the name means.
    """
    weight, means = source.get("new_weight"), target.get("momentum")
    if not isinstance(weight, float):
        return None
    return {"share of the new batch": weight, "share of the old value": 1 - weight}.get(means)


def variance_factor(source: Mapping[str, Any], target: Mapping[str, Any], m: int) -> float | None:
    """What `target` would have kept over what `source` has, on the same batches of m values.

    Training that goes on drifts by this factor; it is nothing to multiply moved weights with. None
    where either is neither biased nor unbiased.
    """
    kept = {"biased": 1.0, "unbiased": m / (m - 1)}
    factors = [kept.get(c.get("running_variance")) for c in (source, target)]
    return None if None in factors else factors[1] / factors[0]
