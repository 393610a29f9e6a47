"""Experiments on inference (Section 3.1, Algorithm 2): which statistics, taken over what.

The network is written out by hand, on top of ``bnkit.reference``: each of its layers may be
normalised by any statistics, of groups, of other examples or of whole data sets, which those of
``bnkit.networks.many_numpy`` may not.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bnkit import datasets, reference
from bnkit.networks import many_numpy
from bnkit.networks.digits import Digits
from bnkit.reference import Population
from bnkit.studies.common import correlated_maps, step

Array = np.ndarray

# A network with Batch Normalization, in NumPy


class Layer(NamedTuple):
    """A hidden layer, z = sigmoid(BN(Wu))."""

    weight: Array  # (units, inputs)
    gamma: Array  # (units,)
    beta: Array  # (units,)


class Network(NamedTuple):
    """Hidden layers with Batch Normalization and a linear output layer; or the gradient of one."""

    hidden: tuple[Layer, ...]
    weight: Array  # (classes, units)
    bias: Array  # (classes,)


Populations = Sequence[Population]  # one for each layer
# number of the layer, its x (m, units), the layer -> y
Normalise = Callable[[int, Array, Layer], Array]


def start(sizes: Sequence[int], rng: Generator) -> Network:
    """A network of `sizes`, inputs to classes; weights N(0, 1/inputs), gamma 1, beta 0."""
    weights = [rng.normal(0, below**-0.5, size=(units, below)) for below, units in pairwise(sizes)]
    pairs = [(np.ones(units), np.zeros(units)) for units in sizes[1:-1]]
    hidden = (Layer(weight, *pair) for weight, pair in zip(weights[:-1], pairs, strict=True))
    return Network(tuple(hidden), weights[-1], np.zeros(sizes[-1]))


sigmoid = many_numpy.ACTIVATIONS["sigmoid"].value


def run(network: Network, u: Array, normalise: Normalise) -> Array:
    """The output with a normalisation of your choice. Shapes: (m, inputs) -> (m, classes)."""
    for k, layer in enumerate(network.hidden):
        u = sigmoid(normalise(k, u @ layer.weight.T, layer))
    return u @ network.weight.T + network.bias


def by_batch(k: int, x: Array, layer: Layer) -> Array:
    """Normalise by the batch's own statistics, as in training; one example becomes beta."""
    return by_group(len(x))(k, x, layer)


def by_group(m: int) -> Normalise:
    """Many batches of m, one after another in the rows of x, each by its own statistics."""

    def normalise(k: int, x: Array, layer: Layer) -> Array:
        groups = grouped(x, m)
        pair = (np.tile(values, len(x) // m) for values in layer[1:])
        own = Population(groups.mean(axis=0), groups.var(axis=0), 1)
        return ungrouped(reference.infer(groups, *pair, own), x.shape)

    return normalise


def by_population(populations: Populations) -> Normalise:
    """Normalise by what training has averaged: Algorithm 2, line 11."""
    return lambda k, x, layer: reference.infer(x, layer.gamma, layer.beta, populations[k])


def loss(network: Network, u: Array, labels: Array) -> float:
    """The mean cross-entropy of a mini-batch in training, in nats."""
    return float(many_numpy.cross_entropy(run(network, u, by_batch), labels)[0])


def gradients(
    network: Network, u: Array, labels: Array, group: int | None = None
) -> tuple[Network, list[Array]]:
    """The gradient of a mini-batch's mean cross-entropy, and the x (m, units) of each layer.

    With `group`, the mini-batch is normalised in groups of that size, each by its own statistics.
    """
    tape, group = [], group or len(u)
    for layer in network.hidden:
        x = u @ layer.weight.T
        pair = (np.tile(values, len(x) // group) for values in layer[1:])
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
        dgamma, dbeta = (of_groups.reshape(-1, x.shape[1]).sum(axis=0) for of_groups in of_pair)
        hidden.append(Layer(dx.T @ below, dgamma, dbeta))
        dz = dx @ layer.weight
    return Network(tuple(hidden[::-1]), error.T @ u, error.sum(axis=0)), [x for _, x, *_ in tape]


def grouped(x: Array, m: int) -> Array:
    """Groups of m examples side by side, as features of their own: (n, d) -> (m, n / m * d)."""
    return x.reshape(-1, m, x.shape[1]).transpose(1, 0, 2).reshape(m, -1)


def ungrouped(x: Array, shape: tuple[int, int]) -> Array:
    """Undo ``grouped``. Shapes: (m, n / m * d) -> `shape`, (n, d)."""
    return x.reshape(len(x), -1, shape[1]).transpose(1, 0, 2).reshape(shape)


def accuracy(network: Network, u: Array, labels: Array, normalise: Normalise) -> float:
    """Share of right answers."""
    return float(np.mean(run(network, u, normalise).argmax(axis=1) == labels))


def tested(network: Network, digits: Digits, populations: Populations) -> float:
    """Accuracy on the test digits by population statistics."""
    return accuracy(network, digits.x_test, digits.test_labels, by_population(populations))


def folded(network: Network, populations: Populations) -> list[tuple[Array, Array]]:
    """The same network at inference without Batch Normalization: weight and bias of every layer."""
    pairs = zip(network.hidden, populations, strict=True)
    hidden = (reference.fold(weight, None, *pair, among) for (weight, *pair), among in pairs)
    return [*hidden, (network.weight, network.bias)]


def run_folded(layers: Sequence[tuple[Array, Array]], u: Array) -> Array:
    """The output of a folded network, an ordinary one. Shapes: (m, inputs) -> (m, classes)."""
    *hidden, (weight, bias) = layers
    for below, offset in hidden:
        u = sigmoid(u @ below.T + offset)
    return u @ weight.T + bias


# Populations


def algorithm_2(network: Network, batches: Iterable[Array]) -> list[Population]:
    """The plain average over mini-batches (m, inputs), as in training but with a frozen network."""
    populations = [None] * len(network.hidden)

    def watch(k, x, layer):
        populations[k] = reference.observe(populations[k], x)
        return by_batch(k, x, layer)

    for u in batches:
        run(network, u, watch)
    return populations


def blend(old: Population | None, new: Population, new_weight: float | None) -> Population:
    """``reference.observe`` for known statistics: several averages share the work of a pass."""
    if old is None:
        return new
    batches = old.batches + 1
    share = 1 / batches if new_weight is None else new_weight
    pairs = ((old.mean, new.mean), (old.var, new.var))
    return Population(*((1 - share) * before + share * now for before, now in pairs), batches)


def truth(network: Network, u: Array) -> list[Population]:
    """Mean and variance of each x over all data, each layer below normalised by its own."""
    populations = []

    def watch(k, x, layer):
        populations.append(Population(x.mean(axis=0), x.var(axis=0), 1))
        return reference.infer(x, layer.gamma, layer.beta, populations[k])

    run(network, u, watch)
    return populations


def errors(estimate: Populations, true: Populations) -> tuple[float, float]:
    """Root mean square errors over all units: of means, in deviations, and of variances."""
    pairs = list(zip(estimate, true, strict=True))
    of_mean = np.concatenate([(one.mean - right.mean) ** 2 / right.var for one, right in pairs])
    of_variance = np.concatenate([(one.var / right.var - 1) ** 2 for one, right in pairs])
    return float(np.sqrt(of_mean.mean())), float(np.sqrt(of_variance.mean()))


def errors_by_layer(estimate: Populations, true: Populations) -> list[float]:
    """The second of ``errors``, of the variances, layer by layer."""
    return [errors([one], [right])[1] for one, right in zip(estimate, true, strict=True)]


class Course(NamedTuple):
    """A training, and several estimates of the population statistics kept along the way."""

    network: Network
    """At the end."""
    averaged: Network
    """At the end, but gamma and beta averaged over the mini-batches of the last epoch."""
    populations: dict[str, list[Population]]
    """At the end, of each estimate."""
    steps: Array
    """(t,), where the estimates were compared with the truth."""
    checks: dict[str, Array]
    """(t, 3): errors of means and of variances, see ``errors``, and the test accuracy."""


def train(
    digits: Digits, *, steps: int, seed: int, new_weights: Mapping[str, float | None],
    batch_size: int = 60, rate: float = 1.0, frozen: int = 50, checks: int = 16,
) -> Course:  # fmt: skip
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


def check(network: Network, digits: Digits, populations: Mapping[str, Populations]) -> dict:
    """Of each estimate: ``errors`` of means and variances, and the test accuracy it gives."""
    right = truth(network, digits.x)

    def facts(estimate: Populations) -> tuple[float, float, float]:
        return *errors(estimate, right), tested(network, digits, estimate)

    return {name: facts(estimate) for name, estimate in populations.items()}


def with_mean_affine(network: Network, affine: Sequence[Sequence[tuple]]) -> Network:
    """`network` with the mean over steps of (gamma, beta) of each layer: step x layer."""
    means = [np.mean(layer, axis=0) for layer in zip(*affine, strict=True)]
    pairs = zip(network.hidden, means, strict=True)
    return network._replace(hidden=tuple(Layer(layer.weight, *pair) for layer, pair in pairs))


# Batches at test time


def in_batches(
    network: Network, u: Array, labels: Array, size: int, repeats: int, rng: Generator
) -> float:
    """Accuracy by batch statistics in random batches of `size` (a shorter last one left out)."""
    orders = [rng.permutation(len(u))[: len(u) // size * size] for _ in range(repeats)]
    shares = [accuracy(network, u[order], labels[order], by_group(size)) for order in orders]
    return float(np.mean(shares))


def in_company(
    network: Network, u: Array, example: int, normalise: Normalise, companies: Array
) -> Array:
    """Class probabilities of one example when it shares its batch with others, by their indices.

    `normalise` sees all batches one after another, the example first in each: ``by_group(1 +
    others)`` or a population. Shapes: u (n, inputs), companies (batches, others) -> (batches,
    classes).
    """
    batches = np.column_stack([np.full(len(companies), example), companies])
    logits = run(network, u[batches.ravel()], normalise)[:: batches.shape[1]]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def sorted_batches(labels: Array, size: int) -> Iterator[Array]:
    """Batches of examples of one class each, class after class: indices (size,)."""
    order = np.argsort(labels, kind="stable")
    for label in range(int(labels.max()) + 1):
        members = order[labels[order] == label]
        for first in range(0, len(members) - size + 1, size):
            yield members[first : first + size]


def by_size(
    network: Network, u: Array, labels: Array, sizes: Sequence[int], rng: Generator
) -> tuple[list[float], list[float]]:
    """Accuracy in random batches and in batches of one class, by size; NaN where none fits."""
    random = [in_batches(network, u, labels, size, 1, rng) for size in sizes]
    of_a_class = []
    for size in sizes:
        order = np.concatenate([np.empty(0, int), *sorted_batches(labels, size)])
        right = accuracy(network, u[order], labels[order], by_group(size)) if len(order) else np.nan
        of_a_class.append(right)
    return random, of_a_class


def effective_batches(weight: float, batches: int, rng: Generator) -> float:
    """How many batches of a fixed network a moving average is worth, by its mean's noise."""
    population = None
    for _ in range(batches):
        population = reference.observe(population, rng.normal(size=(20, 500)), new_weight=weight)
    return float(1 / 20 / np.mean(population.mean**2))


def from_sorted(network: Network, digits: Digits, size: int) -> tuple[float, float]:
    """Algorithm 2 on batches of one class: mean ratio of variances to true ones, and accuracy."""
    batches = (digits.x[part] for part in sorted_batches(digits.labels, size))
    estimate = algorithm_2(network, batches)
    pairs = zip(estimate, truth(network, digits.x), strict=True)
    ratios = [one.var / right.var for one, right in pairs]
    return float(np.mean(ratios)), tested(network, digits, estimate)


def small_batches(
    digits: Digits, groups: Sequence[int], *, seed: int, steps: int, batch_size: int, rate: float
) -> Array:
    """Test accuracy of networks that were trained with their mini-batches normalised in groups.

    All see the same mini-batches and differ in the size of the groups alone, each a divisor of
    `batch_size`. They are tested with population statistics, of the whole training set, and with
    those of random groups. Shape: (2, groups).
    """
    u, labels, test, test_labels = digits.x, digits.labels, digits.x_test, digits.test_labels
    accuracies = []
    for m in groups:
        network = start((u.shape[1], 50, 50, int(labels.max()) + 1), np.random.default_rng(seed))
        batches, rng = datasets.batches(len(u), batch_size, seed), np.random.default_rng(seed)
        for _ in range(steps):
            chosen = next(batches)
            network = step(network, gradients(network, u[chosen], labels[chosen], m)[0], rate)
        order = rng.permutation(len(test))[: len(test) // m * m]
        by_groups = accuracy(network, test[order], test_labels[order], by_group(m))
        accuracies.append((tested(network, digits, truth(network, u)), by_groups))
    return np.array(accuracies).T


# The factor m/(m - 1)


def batch_variances(sizes: Sequence[int], sigma: float, batches: int, rng: Generator) -> Array:
    """Biased and corrected variance of a batch of independent values, averaged: (2, sizes)."""
    variances = []
    for m in sizes:
        # one feature for each batch: they are normalised apart
        x = rng.normal(3.0, sigma, size=(m, batches))
        biased = reference.forward(x, np.ones(batches), np.zeros(batches))[1].var
        variances.append((biased.mean(), reference.observe(None, x).var.mean()))
    return np.array(variances).T


def corrected_variances(
    m: int, side: int, rhos: Sequence[float], maps: int, rng: Generator
) -> tuple[list[float], list[float]]:
    """Var[x] of ``correlated_maps`` for each correlation, measured and expected."""
    drawn = (correlated_maps(m, side, rho, maps, rng) for rho in rhos)
    measured = [float(reference.observe(None, x).var.mean()) for x in drawn]
    return measured, [expected_correction(m, side, rho) for rho in rhos]


def expected_correction(m: int, side: int, rho: float) -> float:
    """Mean Var[x] of ``correlated_maps`` when m * side * side values pass for independent."""
    values = m * side * side
    return (1 - rho / m - (1 - rho) / values) * values / (values - 1)


# What goes wrong elsewhere


def biased_stored(x: Array) -> Population:
    """The variance of a batch without m/(m - 1): a mutant of ``reference.observe(None, x)``."""
    m = x.size // x.shape[1]
    right = reference.observe(None, x)
    return right._replace(var=right.var * (m - 1) / m)


def debiased_from_one(variance: float, new_weight: float, batches: int) -> float:
    """A mutant: a moving average that starts at one, corrected as if it had started at zero."""
    kept = (1 - new_weight) ** batches
    return (kept * 1 + (1 - kept) * variance) / (1 - kept)


class Normalisation:
    """BN with a mode and a population of its own, as in libraries; gamma 1, beta 0."""

    def __init__(self, features: int, training: bool):
        self.training = training
        self.population = Population(np.zeros(features), np.ones(features), 0)

    def __call__(self, x: Array, gradients: bool) -> Array:
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


def statistics_move(kind: type[Normalisation], x: Array) -> dict[str, bool]:
    """For each situation, whether a batch moves the population."""
    moved = {}
    for situation, (training, gradients) in SITUATIONS.items():
        layer = kind(x.shape[1], training)
        layer(x, gradients)
        moved[situation] = layer.population.batches > 0
    return moved
