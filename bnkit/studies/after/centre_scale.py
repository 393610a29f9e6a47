"""Chapter 10: which part of BN does it, the mean taken away or the scale; and why.

The trained networks are recorded (``bnkit.runs.tasks.centre_scale``); what a signal looks like in
untrained ones is computed here.
"""

from itertools import product
from typing import NamedTuple

import numpy as np

from bnkit.networks import many_numpy, parts
from bnkit.runs import experiments, records
from bnkit.runs.tasks.centre_scale import KINDS, PLAIN, Kind

Array = np.ndarray
PASSING = 0.8  # test accuracy from which a learning rate counts as usable
# activation, hidden layers, size of the initial weights in units of He's
SETTINGS = tuple(product(("relu", "sigmoid"), (3, 10), (1.0, 0.1)))


class Parts(NamedTuple):
    """The recorded runs of one setting."""

    steps: Array
    """Steps after which was tested, (t,)."""
    accuracy: Array
    """Test accuracy, a diverged network counts as 0, (seeds, t, kinds, rates)."""

    def of(self, kind: Kind, step: int = -1) -> Array:
        """Accuracy of one kind by learning rate, at the end or after `step` steps: (rates, seeds).

        Raises ValueError where nobody looked after so many steps.
        """
        look = -1 if step < 0 else self.steps.tolist().index(step)
        return self.accuracy[:, look, KINDS.index(kind)].T

    def usable(self, kind: Kind, step: int = -1) -> int:
        """How many of RATES pass, in the mean over seeds."""
        return int((self.of(kind, step).mean(1) > PASSING).sum())


def recorded(activation: str, depth: int, start: float) -> Parts:
    """The records of one of SETTINGS; RecordError without any."""
    runs = experiments.load_all(f"after/parts-{activation}-{depth}-start-{start:g}")
    return Parts(*records.stack(runs, "accuracies"))


def chosen(pair: bool) -> dict[str, Kind]:
    """Kinds by the name of the part, gamma and beta learned or not; without any part, PLAIN."""
    plain = {"nothing": PLAIN}
    return plain | {name: Kind(name, pair, pair) for name in parts.KINDS if name != "nothing"}


class Signal(NamedTuple):
    """What the layers of untrained networks hand on, (layers, seeds) by kind of normalisation."""

    alike: dict[str, Array]
    """Mean cosine between the outputs for two different examples."""
    rank: dict[str, Array]
    """How many directions the outputs fill: (Σ s²)² / Σ s⁴ of their singular values s."""


def signal(digits, depth: int, *, seeds: int, width: int = 32, examples: int = 128) -> Signal:
    """Send digits through untrained ReLU layers with He's weights, with each part of BN."""
    every_seed = [seed for _ in parts.KINDS for seed in range(seeds)]
    inside = [part for part in parts.KINDS.values() for _ in range(seeds)]
    he = lambda fan_in, fan_out: (2 / fan_in) ** 0.5  # noqa: E731
    form = (digits.x.shape[1], width, depth, None, "relu", True, he)
    networks = many_numpy.build(*form, every_seed, of_norm=inside)
    _, tape = many_numpy.forward(networks, digits.x[:examples].astype(float))
    alike, rank = (np.array(column) for column in zip(*map(_likeness, tape), strict=True))
    shape = (depth, len(parts.KINDS), seeds)
    columns = (
        dict(zip(parts.KINDS, np.moveaxis(v.reshape(shape), 1, 0), strict=True))
        for v in (alike, rank)
    )
    return Signal(*columns)


def _likeness(passed: many_numpy.Pass) -> tuple[Array, Array]:
    """Mean cosine between two examples, and the rank, of a layer's outputs: (R,) both."""
    g = passed.g  # (R, m, d)
    lengths = np.linalg.norm(g, axis=2, keepdims=True)
    total = (g / np.where(lengths > 0, lengths, 1)).sum(1)
    m = g.shape[1]
    cosine = ((total**2).sum(1) - m) / (m * (m - 1))
    squares = np.linalg.svd(g, compute_uv=False) ** 2  # (R, min(m, d))
    return cosine, squares.sum(1) ** 2 / (squares**2).sum(1)
