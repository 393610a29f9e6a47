"""Centre and scale, each alone: which part of batch normalization makes small networks train.

All kinds of ``bnkit.networks.parts``, with and without learned gamma and beta, and the ordinary
network with biases, at all learning rates side by side, from the same initial weights and on the
same mini-batches. In NumPy; a run is made whole, and gives one record for a seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, NamedTuple

import numpy as np

from bnkit import datasets
from bnkit.networks import many_numpy, parts
from bnkit.networks.digits import Digits
from bnkit.networks.many_numpy import Stack
from bnkit.runs import records
from bnkit.runs.checkpoints import Checkpoint
from bnkit.runs.tasks import OnStep
from bnkit.runs.training import AnyRecipe, Progress

Array = np.ndarray
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
LOOKS = (1, 25, 80, 250, 1_000)  # steps after which is tested
MEANING = {
    "test_accuracy": "mean of the next curve over all networks",
    "accuracies": "share of test images named correctly, population statistics; 0 for a network "
    "that has diverged; step x kind x learning rate, in the order of KINDS and RATES of "
    "bnkit.runs.tasks.centre_scale",
}


class Kind(NamedTuple):
    """A kind of network that takes part."""

    part: str  # a name of ``parts.KINDS``
    gamma: bool  # whether gamma is learned, or stays at 1
    beta: bool  # whether beta is learned, or stays at 0


PLAIN = Kind("nothing", gamma=False, beta=True)  # beta is a bias: the network without BN
KINDS = (PLAIN, *(Kind(part, pair, pair) for part, pair in product(parts.KINDS, (False, True))))


@dataclass(frozen=True, kw_only=True)
class CentreScaleRecipe(AnyRecipe):
    """A run of all kinds of network at all learning rates."""

    activation: str  # "relu" or "sigmoid"
    depth: int  # hidden layers
    start: float = 1.0  # deviation of the initial weights, in units of He's
    width: int = 32  # units of each hidden layer
    batch_size: int = 32
    dataset: ClassVar[str] = "digits"
    steps: int = 1_000
    seed: int = 0  # of the initial weights and of the order of the images


def columns(rates: tuple[float, ...]) -> list[tuple[Kind, float]]:
    """The networks that are trained side by side, kind by kind."""
    return list(product(KINDS, rates))


def build(recipe: CentreScaleRecipe, rates: tuple[float, ...], digits: Digits) -> Stack:
    """Untrained networks, all from the same weights."""
    inside = [parts.KINDS[kind.part] for kind, _ in columns(rates)]
    he = lambda fan_in, fan_out: recipe.start * (2 / fan_in) ** 0.5  # noqa: E731
    form = (digits.x.shape[1], recipe.width, recipe.depth, 10, recipe.activation, True, he)
    seeds = [recipe.seed] * len(inside)
    return many_numpy.build(*form, seeds, dtype=np.float32, of_norm=inside)


def train(
    recipe: CentreScaleRecipe, rates: tuple[float, ...] = RATES,
    on_step: OnStep = lambda step: None,
) -> Iterator[tuple[int, Array]]:  # fmt: skip
    """Train all networks; yield (step, test accuracies (kinds, rates)) at each of LOOKS."""
    digits = Digits.load()
    networks, of_all = build(recipe, rates, digits), columns(rates)
    every_rate = np.array([rate for _, rate in of_all])
    learned = {name: np.array([getattr(k, name) for k, _ in of_all]) for name in many_numpy.PAIR}
    order = datasets.batches(len(digits.x), recipe.batch_size, recipe.seed)
    looks = {*(step for step in LOOKS if step < recipe.steps), recipe.steps}
    left = np.arange(len(of_all))  # the networks that have not diverged
    for step in range(1, recipe.steps + 1):
        batch = next(order)
        _step(networks, digits.x[batch], digits.labels[batch], every_rate[left], learned, left)
        if networks.diverged.any():
            left, networks = left[~networks.diverged], many_numpy.pick(networks, ~networks.diverged)
        if step in looks:
            accuracy = np.zeros(len(of_all))
            accuracy[left] = digits.test(networks)
            yield step, accuracy.reshape(len(KINDS), len(rates))
        on_step(step)


def _step(
    networks: Stack, x: Array, labels: Array, rates: Array, learned: dict[str, Array], left: Array
) -> None:
    """A step of gradient descent in place; of gamma and beta only where they are learned."""
    with np.errstate(over="ignore", invalid="ignore"):  # too high a rate ends in NaN
        outputs, tape = many_numpy.forward(networks, x)
        _, d_outputs = many_numpy.cross_entropy(outputs, labels)
        gradients, _ = many_numpy.backward(networks, tape, d_outputs)
        for gradient in gradients[: networks.depth]:
            for name, learns in learned.items():
                gradient[name] *= many_numpy.per_network(learns[left], gradient[name])
        many_numpy.descend(networks, gradients, rates)


class Task:
    """The networks and their images."""

    MEANING = MEANING
    WHOLE = True
    TAKES_SOURCE = False

    @staticmethod
    def load(recipe: CentreScaleRecipe) -> Digits:
        """The digits that scikit-learn carries."""
        return Digits.load()

    def __init__(self, recipe: CentreScaleRecipe, *_: object):
        self.recipe, self.digest = recipe, self.load(recipe).data.digest

    def train(self, checkpoint: Checkpoint | None, on_step: OnStep) -> Progress:
        """The whole run at once; it takes half a minute, and is not kept on the way."""
        steps, tested = zip(*train(self.recipe, on_step=on_step), strict=True)
        values = {
            "test_accuracy": [float(accuracies.mean()) for accuracies in tested],
            "accuracies": tested,
        }
        curves = {
            name: {"steps": list(steps), "values": records.round_to(np.array(curve), 4)}
            for name, curve in values.items()
        }
        return Progress(step=self.recipe.steps, curves=curves)
