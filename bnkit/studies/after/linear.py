"""Chapter 10: the 25-layer linear network of Santurkar et al. (2018), from recorded runs.

``bnkit.runs.tasks.linear`` makes them.
"""

from typing import NamedTuple

import numpy as np

from bnkit.runs import experiments, records
from bnkit.runs.tasks.linear import LENGTHS

Array = np.ndarray


class Recorded(NamedTuple):
    """The recorded runs of one kind of network."""

    steps: Array
    """Steps of gradient descent before which was looked, (t,)."""
    loss: Array
    """Sum of squared errors, (seeds, t)."""
    cosine: Array
    """Cosine of G and G' for layers 2 to depth, (seeds, t, layers)."""
    change: Array
    """||G − G'|| / ||G||, same shape."""
    losses_along: Array
    """Losses after steps of LENGTHS times the rate along the gradient, (seeds, t, lengths)."""
    smoothness: Array
    """Effective beta-smoothness along these steps, (seeds, t)."""


def recorded(variant: str) -> Recorded:
    """The records of "linear-with-bn" or "linear-without-bn"; RecordError without any."""
    runs = experiments.load_all(f"after/{variant}")
    curves = {name: records.stack(runs, name) for name in runs[0].curves}
    steps, values = curves["loss"][0], {name: values for name, (_, values) in curves.items()}
    moved = np.array(LENGTHS) * runs[0].recipe["learning_rate"] * values["gradient"][..., None]
    change = values["layer_change"] / values["layer_gradient"]
    smoothness = (values["change_along"] / moved).max(-1)
    of_layers = (values["layer_cosine"], change)
    return Recorded(steps, values["loss"], *of_layers, values["losses_along"], smoothness)
