"""Experiments on inference (Section 3.1, Algorithm 2): which statistics, taken over what, and what
becomes of others.

The network is small enough to be written out in NumPy, on top of ``bnkit.reference``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from bnkit import datasets, reference
from bnkit.networks import many_numpy
from bnkit.networks.digits import Digits
from bnkit.reference import Population

# A network with Batch Normalization, in NumPy


class Layer(NamedTuple):
    """A hidden layer, z = sigmoid(BN(Wu))."""

    weight: np.ndarray  # (units, inputs)
    gamma: np.ndarray  # (units,)
    beta: np.ndarray  # (units,)


class Network(NamedTuple):
    """Hidden layers with Batch Normalization and a linear output layer. Its gradient is one,
    too."""

    hidden: tuple[Layer, ...]
    weight: np.ndarray  # (classes, units)
    bias: np.ndarray  # (classes,)


# number of the layer, its x (m, units), the layer -> y
Normalise = Callable[[int, np.ndarray, Layer], np.ndarray]


def start(sizes: Sequence[int], rng: np.random.Generator) -> Network:
    """A network with `sizes` = inputs, units of the hidden layers, classes; weights N(0, 1/inputs),
    gamma 1, beta 0."""
    weights = [rng.normal(0, below**-0.5, size=(units, below)) for below, units in pairwise(sizes)]
    hidden = tuple(
        Layer(weight, np.ones(len(weight)), np.zeros(len(weight))) for weight in weights[:-1]
    )
    return Network(hidden, weights[-1], np.zeros(sizes[-1]))


def sigmoid(y: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(y / 2)) / 2


def run(network: Network, u: np.ndarray, normalise: Normalise) -> np.ndarray:
    """The network's output with a normalisation of your choice. Shapes: (m, inputs) -> (m,
    classes)."""
    for k, layer in enumerate(network.hidden):
        u = sigmoid(normalise(k, u @ layer.weight.T, layer))
    return u @ network.weight.T + network.bias


def by_batch(k: int, x: np.ndarray, layer: Layer) -> np.ndarray:
    """Normalise by the statistics of the batch at hand, as in training; a batch of one becomes
    beta, as x - x = 0."""
    return by_group(len(x))(k, x, layer)


def by_group(m: int) -> Normalise:
    """Many batches of m at once, one after another in the rows of x, each normalised by its own
    statistics."""

    def normalise(k: int, x: np.ndarray, layer: Layer) -> np.ndarray:
        groups = grouped(x, m)
        pair = (np.tile(each, len(x) // m) for each in layer[1:])
        own = Population(groups.mean(axis=0), groups.var(axis=0), 1)
        return ungrouped(reference.infer(groups, *pair, own), x.shape)

    return normalise


def by_population(populations: Sequence[Population]) -> Normalise:
    """Normalise by what training has averaged: Algorithm 2, line 11. One population for each
    layer."""
    return lambda k, x, layer: reference.infer(x, layer.gamma, layer.beta, populations[k])


def loss(network: Network, u: np.ndarray, labels: np.ndarray) -> float:
    """The mean cross-entropy of a mini-batch in training, in nats."""
    return float(many_numpy.cross_entropy(run(network, u, by_batch), labels)[0])


def gradients(
    network: Network, u: np.ndarray, labels: np.ndarray, group: int | None = None
) -> tuple[Network, list[np.ndarray]]:
    """The gradient of the mean cross-entropy of a mini-batch, and the x (m, units) that each layer
    normalised.

    With `group`, the mini-batch is normalised in groups of that size, each by its own statistics.
    """
    tape, group = [], group or len(u)
    for layer in network.hidden:
        x = u @ layer.weight.T
        pair = (np.tile(each, len(x) // group) for each in layer[1:])
        y, cache = reference.forward(grouped(x, group), *pair)
        z = sigmoid(ungrouped(y, x.shape))
        tape.append((u, x, cache, z))
        u = z
    logits = u @ network.weight.T + network.bias
    _, error = many_numpy.cross_entropy(logits, labels)  # (m, classes)
    dz, hidden = error @ network.weight, []
    for layer, (below, x, cache, z) in zip(network.hidden[::-1], tape[::-1], strict=True):
        dx, *of_pair = reference.backward(grouped(dz * z * (1 - z), group), cache)
        dx = ungrouped(dx, x.shape)
        dgamma, dbeta = (each.reshape(-1, x.shape[1]).sum(axis=0) for each in of_pair)
        hidden.append(Layer(dx.T @ below, dgamma, dbeta))
        dz = dx @ layer.weight
    return Network(tuple(hidden[::-1]), error.T @ u, error.sum(axis=0)), [x for _, x, *_ in tape]


def grouped(x: np.ndarray, m: int) -> np.ndarray:
    """Groups of m examples side by side, as features of their own. Shapes: (n, d) -> (m, n / m *
    d)."""
    return x.reshape(-1, m, x.shape[1]).transpose(1, 0, 2).reshape(m, -1)


def ungrouped(x: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Undo ``grouped``. Shapes: (m, n / m * d) -> `shape`, (n, d)."""
    return x.reshape(len(x), -1, shape[1]).transpose(1, 0, 2).reshape(shape)


def step(network: Network, gradient: Network, rate: float) -> Network:
    """The network after one step of plain gradient descent."""
    hidden = (
        Layer(*(old - rate * slope for old, slope in zip(layer, slopes, strict=True)))
        for layer, slopes in zip(network.hidden, gradient.hidden, strict=True)
    )
    return Network(
        tuple(hidden), network.weight - rate * gradient.weight, network.bias - rate * gradient.bias
    )


def accuracy(network: Network, u: np.ndarray, labels: np.ndarray, normalise: Normalise) -> float:
    """Share of right answers."""
    return float(np.mean(run(network, u, normalise).argmax(axis=1) == labels))


def tested(network: Network, digits: Digits, populations: Sequence[Population]) -> float:
    """Accuracy on the test digits by population statistics."""
    return accuracy(network, digits.x_test, digits.test_labels, by_population(populations))


def folded(
    network: Network, populations: Sequence[Population]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same network at inference without Batch Normalization: weight and bias of every layer."""
    hidden = [
        reference.fold(layer.weight, None, layer.gamma, layer.beta, population)
        for layer, population in zip(network.hidden, populations, strict=True)
    ]
    return [*hidden, (network.weight, network.bias)]


def run_folded(layers: Sequence[tuple[np.ndarray, np.ndarray]], u: np.ndarray) -> np.ndarray:
    """The output of a folded network, which is an ordinary one. Shapes: (m, inputs) -> (m,
    classes)."""
    *hidden, (weight, bias) = layers
    for below, offset in hidden:
        u = sigmoid(u @ below.T + offset)
    return u @ weight.T + bias


# Populations


def algorithm_2(network: Network, batches: Iterable[np.ndarray]) -> list[Population]:
    """The plain average over mini-batches (m, inputs) that run through the frozen network as in
    training."""
    populations = [None] * len(network.hidden)

    def watch(k, x, layer):
        populations[k] = reference.observe(populations[k], x)
        return by_batch(k, x, layer)

    for u in batches:
        run(network, u, watch)
    return populations


def blend(old: Population | None, new: Population, new_weight: float | None) -> Population:
    """``reference.observe`` for a batch whose statistics are known: several averages share the work
    of one pass."""
    if old is None:
        return new
    share = 1 / (old.batches + 1) if new_weight is None else new_weight
    return Population(
        (1 - share) * old.mean + share * new.mean,
        (1 - share) * old.var + share * new.var,
        old.batches + 1,
    )


def truth(network: Network, u: np.ndarray) -> list[Population]:
    """Mean and variance of each x over a whole data set, every layer below normalised by those of
    its own."""
    populations = []

    def watch(k, x, layer):
        populations.append(Population(x.mean(axis=0), x.var(axis=0), 1))
        return reference.infer(x, layer.gamma, layer.beta, populations[k])

    run(network, u, watch)
    return populations


def errors(found: Sequence[Population], true: Sequence[Population]) -> tuple[float, float]:
    """Root mean square errors over all units of all layers: of means, in standard deviations, and
    of variances."""
    pairs = list(zip(found, true, strict=True))
    of_mean = np.concatenate([(each.mean - right.mean) ** 2 / right.var for each, right in pairs])
    of_variance = np.concatenate([(each.var / right.var - 1) ** 2 for each, right in pairs])
    return float(np.sqrt(of_mean.mean())), float(np.sqrt(of_variance.mean()))


def errors_by_layer(found: Sequence[Population], true: Sequence[Population]) -> list[float]:
    """The second of ``errors``, of the variances, layer by layer."""
    return [errors([one], [right])[1] for one, right in zip(found, true, strict=True)]


class Course(NamedTuple):
    """A training, and several estimates of the population statistics kept along the way."""

    network: Network
    """At the end."""
    averaged: Network
    """At the end, but gamma and beta averaged over the mini-batches of the last epoch."""
    populations: dict[str, list[Population]]
    """At the end, of each estimate."""
    steps: np.ndarray
    """(t,), where the estimates were compared with the truth."""
    checks: dict[str, np.ndarray]
    """(t, 3): errors of means and of variances, see ``errors``, and the test accuracy."""


def train(
    digits: Digits,
    *,
    steps: int,
    seed: int,
    new_weights: Mapping[str, float | None],
    batch_size: int = 60,
    rate: float = 1.0,
    frozen: int = 50,
    checks: int = 16,
) -> Course:
    """Train a network with two hidden layers of 50 units, and follow its population statistics.

    `new_weights` names moving averages over the training steps and gives the share of the new batch
    in each, None for a plain average since the start. "Algorithm 2" is added: at each check the
    network is frozen and `frozen` mini-batches are averaged.
    """
    u, labels = digits.x, digits.labels
    network = start((u.shape[1], 50, 50, int(labels.max()) + 1), np.random.default_rng(seed))
    moving = {name: [None] * len(network.hidden) for name in new_weights}
    batches, apart = (datasets.batches(len(u), batch_size, s) for s in (seed, seed + 1_000_000))
    due = np.unique(np.geomspace(1, steps, checks).round().astype(int))
    last_epoch, affine, checked = max(1, len(u) // batch_size), [], []
    for number in range(1, steps + 1):
        chosen = next(batches)
        gradient, xs = gradients(network, u[chosen], labels[chosen])
        seen = [reference.observe(None, x) for x in xs]
        for name, weight in new_weights.items():
            moving[name] = [blend(*pair, weight) for pair in zip(moving[name], seen, strict=True)]
        network = step(network, gradient, rate)
        if number > steps - last_epoch:
            affine.append([(layer.gamma, layer.beta) for layer in network.hidden])
        if number in due:
            anew = algorithm_2(network, (u[next(apart)] for _ in range(frozen)))
            populations = moving | {"Algorithm 2": anew}
            checked.append(check(network, digits, populations))
    curves = {name: np.array([row[name] for row in checked]) for name in populations}
    return Course(network, with_mean_affine(network, affine), populations, due, curves)


def check(
    network: Network, digits: Digits, populations: Mapping[str, Sequence[Population]]
) -> dict[str, tuple[float, float, float]]:
    """Of each estimate: ``errors`` of means and variances, and the test accuracy it gives."""
    right = truth(network, digits.x)
    return {
        name: (*errors(estimate, right), tested(network, digits, estimate))
        for name, estimate in populations.items()
    }


def with_mean_affine(network: Network, affine: Sequence[Sequence[tuple]]) -> Network:
    """`network` with the mean over steps of (gamma, beta) of each layer: step x layer."""
    means = [np.mean(layer, axis=0) for layer in zip(*affine, strict=True)]
    pairs = zip(network.hidden, means, strict=True)
    return network._replace(hidden=tuple(Layer(layer.weight, *pair) for layer, pair in pairs))


# Batches at test time


def in_batches(
    network: Network,
    u: np.ndarray,
    labels: np.ndarray,
    size: int,
    repeats: int,
    rng: np.random.Generator,
) -> float:
    """Accuracy by batch statistics, the test set cut into random batches of `size` (a shorter last
    one left out)."""
    orders = [rng.permutation(len(u))[: len(u) // size * size] for _ in range(repeats)]
    return float(
        np.mean([accuracy(network, u[order], labels[order], by_group(size)) for order in orders])
    )


def in_company(
    network: Network, u: np.ndarray, example: int, normalise: Normalise, companies: np.ndarray
) -> np.ndarray:
    """Class probabilities of one example when it shares its batch with others, given by their
    indices.

    `normalise` sees all batches one after another, the example first in each: ``by_group(1 +
    others)`` or a population. Shapes: u (n, inputs), companies (batches, others) -> (batches,
    classes).
    """
    batches = np.column_stack([np.full(len(companies), example), companies])
    logits = run(network, u[batches.ravel()], normalise)[:: batches.shape[1]]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def sorted_batches(labels: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Batches of examples of one class each, class after class: indices (size,)."""
    order = np.argsort(labels, kind="stable")
    for label in range(int(labels.max()) + 1):
        members = order[labels[order] == label]
        for first in range(0, len(members) - size + 1, size):
            yield members[first : first + size]


def by_size(
    network: Network,
    u: np.ndarray,
    labels: np.ndarray,
    sizes: Sequence[int],
    rng: np.random.Generator,
) -> tuple[list[float], list[float]]:
    """Accuracy by the statistics of random batches and of batches of one class, for each size; NaN
    where none fits."""
    random = [in_batches(network, u, labels, size, 1, rng) for size in sizes]
    of_a_class = []
    for size in sizes:
        order = np.concatenate([np.empty(0, int), *sorted_batches(labels, size)])
        of_a_class.append(
            accuracy(network, u[order], labels[order], by_group(size)) if len(order) else np.nan
        )
    return random, of_a_class


def effective_batches(weight: float, batches: int, rng: np.random.Generator) -> float:
    """How many batches of a network that stands still a moving average is worth, from the noise of
    its mean."""
    population = None
    for _ in range(batches):
        population = reference.observe(population, rng.normal(size=(20, 500)), new_weight=weight)
    return float(1 / 20 / np.mean(population.mean**2))


def from_sorted(network: Network, digits: Digits, size: int) -> tuple[float, float]:
    """Algorithm 2 on batches of one class each: the variances in units of the true ones, averaged,
    and the accuracy."""
    found = algorithm_2(network, (digits.x[part] for part in sorted_batches(digits.labels, size)))
    ratios = [
        each.var / right.var for each, right in zip(found, truth(network, digits.x), strict=True)
    ]
    return float(np.mean(ratios)), accuracy(
        network, digits.x_test, digits.test_labels, by_population(found)
    )


def small_batches(
    digits: Digits, groups: Sequence[int], *, seed: int, steps: int, batch_size: int, rate: float
) -> np.ndarray:
    """Test accuracy of networks that were trained with their mini-batches normalised in groups.

    All see the same mini-batches and differ in the size of the groups alone, each a divisor of
    `batch_size`. They are tested with population statistics, of the whole training set, and with
    those of random groups. Shape: (2, groups).
    """
    u, labels, test, test_labels = digits.x, digits.labels, digits.x_test, digits.test_labels
    found = []
    for m in groups:
        network = start((u.shape[1], 50, 50, int(labels.max()) + 1), np.random.default_rng(seed))
        batches, rng = datasets.batches(len(u), batch_size, seed), np.random.default_rng(seed)
        for _ in range(steps):
            chosen = next(batches)
            network = step(network, gradients(network, u[chosen], labels[chosen], m)[0], rate)
        order = rng.permutation(len(test))[: len(test) // m * m]
        of_population = accuracy(network, test, test_labels, by_population(truth(network, u)))
        found.append(
            (of_population, accuracy(network, test[order], test_labels[order], by_group(m)))
        )
    return np.array(found).T


# The factor m/(m - 1)


def batch_variances(
    sizes: Sequence[int], sigma: float, batches: int, rng: np.random.Generator
) -> np.ndarray:
    """Biased and corrected variance of a batch of independent values, averaged over batches. Shape:
    (2, sizes)."""
    found = []
    for m in sizes:
        # one feature for each batch: they are normalised apart
        x = rng.normal(3.0, sigma, size=(m, batches))
        biased = reference.forward(x, np.ones(batches), np.zeros(batches))[1].var
        found.append((biased.mean(), reference.observe(None, x).var.mean()))
    return np.array(found).T


def classes_apart(per_class: int, rng: np.random.Generator) -> np.ndarray:
    """One feature of ten classes, variance 1 within each and 4.36 over all, exactly. Shape: (10,
    per_class)."""
    centres = (np.arange(10) - 4.5) * np.sqrt(3.36 / 8.25)  # 8.25 is the variance of 0 to 9
    within = reference.forward(rng.normal(size=(per_class, 10)), np.ones(10), centres, eps=0.0)[0]
    return within.T


def averaged(values: np.ndarray, m: int) -> Population:
    """Algorithm 2's averages over mini-batches of m of the values (n,), in the order in which they
    stand."""
    population = None
    for batch in values.reshape(-1, m, 1):
        population = reference.observe(population, batch)
    return population


def correlated_maps(
    m: int, side: int, rho: float, maps: int, rng: np.random.Generator
) -> np.ndarray:
    """Feature maps of mean 0, variance 1; two pixels of one image have the correlation rho. (m,
    maps, side, side)."""
    of_image = rng.normal(size=(m, maps, 1, 1))
    return np.sqrt(rho) * of_image + np.sqrt(1 - rho) * rng.normal(size=(m, maps, side, side))


def corrected_variances(
    m: int, side: int, rhos: Sequence[float], maps: int, rng: np.random.Generator
) -> tuple[list[float], list[float]]:
    """Var[x] of ``correlated_maps`` for each correlation, measured and expected."""
    measured = [
        float(reference.observe(None, correlated_maps(m, side, rho, maps, rng)).var.mean())
        for rho in rhos
    ]
    return measured, [expected_correction(m, side, rho) for rho in rhos]


def expected_correction(m: int, side: int, rho: float) -> float:
    """What Var[x] of ``correlated_maps`` is on average, when m' = m * side * side is taken for
    independent values."""
    values = m * side * side
    return (1 - rho / m - (1 - rho) / values) * values / (values - 1)


# What goes wrong elsewhere


def biased_stored(x: np.ndarray) -> Population:
    """The variance of a batch kept as it is, without m/(m - 1): a mutant of
    ``reference.observe(None, x)``."""
    m = x.size // x.shape[1]
    right = reference.observe(None, x)
    return right._replace(var=right.var * (m - 1) / m)


def debiased_from_one(variance: float, new_weight: float, batches: int) -> float:
    """A mutant: a moving average that starts at one, corrected as if it had started at zero."""
    kept = (1 - new_weight) ** batches
    return (kept * 1 + (1 - kept) * variance) / (1 - kept)


class Normalisation:
    """Batch Normalization with a mode and a population of its own, as layers of libraries are;
    gamma 1 and beta 0."""

    def __init__(self, features: int, training: bool):
        self.training = training
        self.population = Population(np.zeros(features), np.ones(features), 0)

    def __call__(self, x: np.ndarray, gradients: bool) -> np.ndarray:
        """Normalise x (m, d); `gradients` says whether the program around it is recording them."""
        pair = np.ones(x.shape[1]), np.zeros(x.shape[1])
        if not self.trains(gradients):
            return reference.infer(x, *pair, self.population)
        self.population = reference.observe(self.population, x, new_weight=0.1)
        return reference.forward(x, *pair)[0]

    def trains(self, gradients: bool) -> bool:
        """Whether it is to use, and to keep, the statistics of the batch."""
        return self.training


class ModeFromGradients(Normalisation):
    """A mutant: it trains if gradients are recorded, whatever it was told."""

    def trains(self, gradients: bool) -> bool:
        return gradients


SITUATIONS = {  # training mode, gradients recorded
    "training": (True, True),
    "evaluation": (False, False),
    "collecting statistics again, Algorithm 2": (True, False),
    "frozen, while the layers around it are fine-tuned": (False, True),
}


def statistics_move(kind: type[Normalisation], x: np.ndarray) -> dict[str, bool]:
    """For each situation, whether a batch moves the population."""
    moved = {}
    for situation, (training, gradients) in SITUATIONS.items():
        layer = kind(x.shape[1], training)
        layer(x, gradients)
        moved[situation] = layer.population.batches > 0
    return moved
