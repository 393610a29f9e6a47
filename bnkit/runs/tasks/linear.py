"""The 25-layer linear network of Santurkar et al. (2018): no nonlinearity, no mini-batches, depth.

In NumPy, with derivatives by hand; a run is made whole.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bnkit.networks import landscape, many_numpy
from bnkit.runs import records
from bnkit.runs.checkpoints import Checkpoint
from bnkit.runs.tasks import OnStep
from bnkit.runs.training import AnyRecipe, Progress

LENGTHS = tuple(np.geomspace(0.01, 30, 10).round(4).tolist())  # of steps, in learning rates
MEANING = {
    "loss": "sum of squared errors",
    "layer_gradient": "norm of the gradient G of the weights of layers 2 to depth; step x layer",
    "layer_change": "norm of G - G', after a step of all layers below "
    "(Santurkar et al. 2018, Definition 2.1)",
    "layer_cosine": "cosine of G and G'",
    "losses_along": f"loss after a step along the gradient, of {LENGTHS} times the learning rate; "
    "step x length",
    "change_along": "norm of the change of the gradient of all parameters after these steps",
    "gradient": "norm of the gradient of all parameters",
}


@dataclass(frozen=True, kw_only=True)
class LinearRecipe(AnyRecipe):
    """A run of full-batch gradient descent."""

    norm: bool  # BN behind each layer but the last, whose outputs have the scale of the targets
    depth: int = 25  # linear layers
    width: int = 10  # units in each, inputs and outputs
    examples: int = 1000  # Gaussian inputs, all of them in every step
    learning_rate: float = 1e-6  # for the sum of squared errors over all examples and outputs
    dataset: ClassVar[str] = "random numbers"
    steps: int = 3_000  # of gradient descent; they take 10,000
    seed: int = 0  # of the data and the initial weights


def task(recipe: LinearRecipe) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian inputs and their images under a random linear map, (examples, width) each."""
    generator, width = np.random.default_rng([25, recipe.seed]), recipe.width
    x = generator.standard_normal((recipe.examples, width))
    return x, x @ generator.standard_normal((width, width))


def network(recipe: LinearRecipe) -> many_numpy.Stack:
    """The untrained network, a stack of one, with Glorot's initial weights."""
    width, hidden, seeds = recipe.width, recipe.depth - 1, [recipe.seed]
    glorot = lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5  # noqa: E731
    return many_numpy.build(width, width, hidden, width, "linear", recipe.norm, glorot, seeds)


def looks(steps: int) -> list[int]:
    """Steps at which is looked: dense at first, on a logarithmic scale."""
    grid = np.unique(np.geomspace(1, max(steps, 1), 33).round().astype(int)).tolist()
    return sorted({0, *(step for step in grid if step <= steps)})


def train(recipe: LinearRecipe, on_step: OnStep = lambda step: None) -> dict[str, dict]:
    """Train one network by full-batch gradient descent; curves, taken before the step they name.

    Raises FloatingPointError if the network diverges.
    """
    networks, slope = network(recipe), landscape.squares(*task(recipe))
    wanted, seen = set(looks(recipe.steps)), []
    for step in range(recipe.steps + 1):
        loss, gradients = slope(networks)
        if step in wanted:
            shift = landscape.interference(networks, slope, recipe.learning_rate)
            way = landscape.along(networks, slope, recipe.learning_rate, LENGTHS)
            layers = (norms[:, 0] for norms in shift)
            seen.append((step, loss[0], *layers, way.losses[:, 0], way.change[:, 0], way.size[0]))
        many_numpy.descend(networks, gradients, recipe.learning_rate)
        if networks.diverged.any():
            raise FloatingPointError(f"the linear network diverged at step {step}: {recipe}")
        on_step(step)
    steps, *columns = zip(*seen, strict=True)
    return {
        name: {"steps": list(steps), "values": records.round_to(column, 4)}
        for name, column in zip(MEANING, columns, strict=True)
    }


class Task:
    """The network and its random data."""

    MEANING = MEANING
    WHOLE = True
    TAKES_SOURCE = False
    digest = "none: random numbers"

    @staticmethod
    def load(recipe: LinearRecipe) -> None:
        """There is nothing to load."""

    def __init__(self, recipe: LinearRecipe, *_: object):
        self.recipe = recipe

    def train(self, checkpoint: Checkpoint | None, on_step: OnStep) -> Progress:
        """The whole run at once; it takes a minute, and is not kept on the way."""
        return Progress(step=self.recipe.steps, curves=train(self.recipe, on_step))
