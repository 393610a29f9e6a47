"""Experiments on the transform, Sections 3 to 3.3: Algorithm 1, gamma and beta, place, scale.

NumPy, on top of ``bnkit.reference``; the small networks are those of ``bnkit.networks.many_numpy``.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bnkit import datasets, mutants, reference
from bnkit.networks import many_numpy
from bnkit.networks.digits import Digits
from bnkit.networks.many_numpy import Stack

Array = np.ndarray

# The size of a normalised value


def normalised(x: Array, eps: float = 1e-5) -> Array:
    """The x_hat of Algorithm 1, before gamma and beta. Shapes: (m, d) -> (m, d)."""
    d = x.shape[1]
    return reference.forward(x, np.ones(d), np.zeros(d), eps)[1].x_hat


def line_by_line(x: Array, gamma: float, beta: float, eps: float = 0.0) -> dict:
    """What each line of Algorithm 1 makes of x (m,): (1,) for mean and variance, (m,) else."""
    y, cache = reference.forward(x[:, None], np.array([gamma]), np.array([beta]), eps)
    x_hat, y = cache.x_hat[:, 0], y[:, 0]
    return {"mean": cache.mean, "variance": cache.var, "normalised": x_hat, "output": y}


# Statistics of a mini-batch


def statistics_error(
    x: Array, sizes: Sequence[int], batches: int, rng: Generator
) -> tuple[Array, Array]:
    """How far mean and (unbiased) variance of a random mini-batch are from those of all x (n, d).

    Root mean squares over `batches` mini-batches and all features, drawn with replacement, in units
    of the feature's deviation for the mean, of its variance for the variance. Shapes: (sizes,)
    both.
    """
    mean, variance = x.mean(axis=0), x.var(axis=0)
    errors = []
    for m in sizes:
        drawn = x[rng.integers(len(x), size=(m, batches))]  # (m, batches, d)
        of_batches = reference.observe(None, drawn.reshape(m, -1))  # a feature for each and batch
        of_mean = np.mean((of_batches.mean.reshape(batches, -1) - mean) ** 2 / variance)
        of_variance = np.mean((of_batches.var.reshape(batches, -1) / variance - 1) ** 2)
        errors.append((of_mean, of_variance))
    return tuple(np.sqrt(errors).T)


def in_company(a: float, m: int, batches: int, rng: Generator) -> Array:
    """One example, `a`, normalised in batches with m - 1 others from N(0, 1). Shape: (batches,)."""
    x = rng.normal(size=(m, batches))  # one feature for each batch
    x[0] = a
    return normalised(x)[0]


def expected_noise(a: float, m: Array) -> Array:
    """Deviation of ``in_company`` for large m: variance of the mean 1/m, of the deviation 1/2m."""
    return np.sqrt((1 + a**2 / 2) / m)


# What one unit can represent with and without gamma and beta


class UnitFit(NamedTuple):
    """One sigmoid unit fitted to a curve."""

    output: Array  # (m,), where the training ended
    losses: Array  # (steps,), half the mean squared error


def fit_unit(u: Array, target: Array, learn: bool, steps: int, rate: float) -> UnitFit:
    """Fit ``a * sigmoid(BN(w u)) + c`` to a curve, with gamma and beta learned or fixed at 1 and 0.

    a and c are the best there are, by least squares, at every step; gamma and beta learn by
    gradient descent. Without w, as BN(w u) is the same. Shapes: u and target (m,).
    """
    gamma, beta, losses = np.ones(1), np.zeros(1), np.empty(steps)
    for step in range(steps):
        y, cache = reference.forward(u[:, None], gamma, beta)
        z = 1 / (1 + np.exp(-y))
        design = np.hstack([z, np.ones_like(z)])
        a, c = np.linalg.lstsq(design, target)[0]
        error = a * z + c - target[:, None]
        losses[step] = np.mean(error**2) / 2
        # a and c are at their best, where the loss has no slope in them: that through y is left
        _, dgamma, dbeta = reference.backward(error * a * z * (1 - z) / len(u), cache)
        if learn:
            gamma, beta = gamma - rate * dgamma, beta - rate * dbeta
    return UnitFit((target[:, None] + error)[:, 0], losses)


# Small networks, many at once


class Rates(NamedTuple):
    """Learning rates of one network; 0 freezes what it belongs to."""

    weights: float  # of the hidden layers, with their biases
    gamma_beta: float
    output: float  # of the last layer

    @classmethod
    def equal(cls, rate: float) -> "Rates":
        """The same rate for all parameters."""
        return cls(rate, rate, rate)


class Outcome(NamedTuple):
    """Networks trained at several settings, with several seeds each."""

    networks: many_numpy.Stack  # S = settings * seeds of them, setting by setting
    losses: Array  # (settings, seeds, steps), of the mini-batch before the step
    weight_norms: Array  # same shape, of the first hidden layer's weights before the step
    accuracies: Array  # (settings, seeds), on the test set, with population statistics

    @property
    def final_losses(self) -> Array:
        """Mean training loss of the last sixth of the steps; from ln 10 on, nothing was learned."""
        last = max(1, self.losses.shape[-1] // 6)
        return self.losses[..., -last:].mean(axis=-1)


def compare(
    digits: Digits, activation: str, place: str, settings: Sequence[Rates], *, seeds: int,
    steps: int, batch_size: int = 60, width: int = 64, batches: Iterator[Array] | None = None,
) -> Outcome:  # fmt: skip
    """Train networks with two hidden layers, `seeds` of them at each of `settings`; test them.

    `place` is where the normalisation stands: "before" the nonlinearity (Section 3.2), "after" it,
    or "none". Weights are drawn from N(0, 0.1 squared). A seed means the same initial weights, and
    the same mini-batches unless `batches` are given, at every setting and place.
    """
    norm, columns = place != "none", [*range(seeds)] * len(settings)
    options = {"place": place if norm else "before", "dtype": np.float32}
    form = (digits.x.shape[1], width, 2, 10, activation, norm, lambda *_: 0.1)
    networks = many_numpy.build(*form, columns, **options)
    batches = batches or shuffled(len(digits.labels), batch_size, columns)
    rates = [setting for setting in settings for _ in range(seeds)]
    curves = train(networks, digits, batches, rates, steps)
    populations = collect(networks, digits.x, batches, 20) if norm else None
    accuracies = many_numpy.accuracy(networks, digits.x_test, digits.test_labels, populations)
    shape = (len(settings), seeds)
    losses, norms = (curve.reshape(*shape, -1) for curve in curves)
    return Outcome(networks, losses, norms, accuracies.reshape(shape))


def train(
    networks: Stack, digits: Digits, batches: Iterator[Array], rates: Sequence[Rates], steps: int
) -> tuple[Array, Array]:
    """Plain gradient descent of S networks in place, each with batches and rates of its own.

    Returns each mini-batch's loss and the norm of the first layer's weights before it, (S, steps).
    """
    of_weights, of_gamma_beta, of_output = np.array(rates, dtype=np.float32).T
    losses, norms = [], []
    for _ in range(steps):
        chosen = next(batches)
        # a network that diverges is taken out by ``descend``
        with np.errstate(over="ignore", invalid="ignore"):
            outputs, tape = many_numpy.forward(networks, digits.x[chosen])
            loss, d_outputs = many_numpy.cross_entropy(outputs, digits.labels[chosen])
            gradients, _ = many_numpy.backward(networks, tape, d_outputs)
        losses.append(loss)
        norms.append(np.linalg.norm(networks.layers[0]["weight"], axis=(1, 2)))
        for index, gradient in enumerate(gradients):
            of_plain = of_output if index == networks.depth else of_weights
            for name, value in gradient.items():
                rate = of_gamma_beta if name in many_numpy.PAIR else of_plain
                value *= many_numpy.per_network(rate, value)
        many_numpy.descend(networks, gradients, 1.0)
    return np.stack(losses, 1), np.stack(norms, 1)


def collect(networks: Stack, images: Array, batches: Iterator[Array], count: int) -> list:
    """Algorithm 2, lines 8 to 10: averages the statistics of `count` training mini-batches."""
    populations = None
    for _ in range(count):
        populations = many_numpy.observe(networks, images[next(batches)], populations)
    return populations


def shuffled(n: int, batch_size: int, seeds: Sequence[int]) -> Iterator[Array]:
    """Mini-batches in random order, for each network its own. Yields indices (S, batch_size)."""
    streams = [datasets.batches(n, batch_size, seed) for seed in seeds]
    while True:
        yield np.stack([next(stream) for stream in streams])


def of_few_classes(
    labels: Array, batch_size: int, classes: Sequence[int], seeds: Sequence[int]
) -> Iterator[Array]:
    """Mini-batches for network s from ``classes[s]`` random classes, equally many of each.

    `batch_size` must be a multiple of each number of classes. Yields indices (S, batch_size).
    """
    members = [np.flatnonzero(labels == label) for label in range(10)]
    generators = [np.random.default_rng(seed) for seed in seeds]

    def one(count: int, rng: Generator) -> Array:
        places = rng.random((count, batch_size // count))  # in its class, from 0 to 1
        chosen = [members[label] for label in rng.permutation(10)[:count]]
        pairs = zip(chosen, places, strict=True)
        return np.concatenate([of[(len(of) * place).astype(int)] for of, place in pairs])

    while True:
        yield np.stack([one(count, rng) for count, rng in zip(classes, generators, strict=True)])


def placements(digits: Digits, rates: Sequence[float], **size: int) -> dict:
    """Networks normalised "before" and "after" the nonlinearity: by activation, then by place."""
    settings, names, places = list(map(Rates.equal, rates)), ("sigmoid", "relu"), many_numpy.PLACES
    return {g: {at: compare(digits, g, at, settings, **size) for at in places} for g in names}


def worth_of_the_pair(
    digits: Digits, activation: str, rates: Sequence[float], **size: int
) -> dict[str, Array]:
    """Test accuracy without BN, normalised only, and with gamma and beta learned, (seeds,) each.

    Each kind at the rate of `rates` that is best for it; a network that diverged counts as 0.
    """
    equal, fixed = list(map(Rates.equal, rates)), [Rates(rate, 0, rate) for rate in rates]
    kinds = {
        "without BN": ("none", equal),
        "γ = 1, β = 0": ("before", fixed),
        "γ, β learned": ("before", equal),
    }
    reached = {
        name: np.nan_to_num(compare(digits, activation, *kind, **size).accuracies)
        for name, kind in kinds.items()
    }
    return {name: of_rate[of_rate.mean(1).argmax()] for name, of_rate in reached.items()}


def learn_from_few_classes(
    digits: Digits, place: str, classes: Sequence[int], *, seeds: int, batch_size: int, **size: int
) -> Array:
    """Test accuracy of ReLU networks trained on batches of so many classes, (seeds, classes)."""
    columns = [(count, seed) for count in classes for seed in range(seeds)]
    batches = of_few_classes(digits.labels, batch_size, *zip(*columns, strict=True))
    settings = [Rates.equal(0.1)] * len(classes)
    outcome = compare(digits, "relu", place, settings, seeds=seeds, batches=batches, **size)
    return outcome.accuracies.T


def answer_among_few_classes(digits: Digits, healthy: Outcome, classes: Sequence[int]) -> Array:
    """Accuracy in test batches of 20 from few classes, by the batch's own statistics.

    Of the networks at the first setting of `healthy`. Shape (seeds, classes).
    """
    seeds = healthy.accuracies.shape[1]
    networks = many_numpy.pick(healthy.networks, np.arange(seeds))
    accuracies = []
    for number in classes:
        batches = of_few_classes(digits.test_labels, 20, [number] * seeds, range(seeds))
        chosen = np.stack([next(batches) for _ in range(15)])  # (15, seeds, 20)
        outputs = [many_numpy.forward(networks, digits.x_test[part])[0] for part in chosen]
        right = np.argmax(outputs, axis=-1) == digits.test_labels[chosen]
        accuracies.append(right.mean(axis=(0, 2)))
    return np.array(accuracies).T


def around_the_nonlinearity(outcome: Outcome, images: Array) -> tuple[Array, Array]:
    """Values of the second hidden layer before (Wu, not normalised) and after its nonlinearity,
    each unit standardised, of all networks together: (values,) both.

    Units that never vary, such as dead ones, are left out.
    """
    # normalised by this batch, as in training
    _, second, _ = many_numpy.forward(outcome.networks, images)[1]
    return _standardised_units(second.x), _standardised_units(second.g)


def _standardised_units(x: Array) -> Array:
    values = many_numpy.columns(x).astype(float)  # (n, S * units)
    values = values[:, values.std(axis=0) > 1e-6]
    return ((values - values.mean(axis=0)) / values.std(axis=0)).ravel()


# Scale


def layer_and_gradients(
    weight: Array, u: Array, upstream: Array, eps: float = 0.0
) -> tuple[Array, Array, Array]:
    """BN(Wu) for one mini-batch, and the gradients for u and W, `upstream` that for the output.

    Shapes: weight (inputs, d), u (m, inputs), upstream (m, d) -> (m, d), (m, inputs), (inputs, d).
    """
    d = weight.shape[1]
    y, cache = reference.forward(u @ weight, np.ones(d), np.zeros(d), eps)
    dx, _, _ = reference.backward(upstream, cache)
    return y, dx @ weight.T, u.T @ dx


def scaled(factors: Array, x: Array, eps: float) -> tuple[Array, Array]:
    """Standard deviation of BN(a x), x (m, 1), for factors a, measured and by formula."""
    measured = np.array([normalised(a * x, eps).std() for a in factors])
    sigma = factors * x.std()
    return measured, sigma / np.sqrt(sigma**2 + eps)


# Failure gallery: what other programs normalise with

ONE_PASS = "E[x²] − E[x]²"
MUTANTS = {
    "divides by the variance": mutants.DividedByTheVariance,
    "ε outside the root": mutants.EpsOutsideTheRoot,
    "unbiased variance": mutants.UnbiasedVarianceToNormalize,
    ONE_PASS: mutants.MeanOfSquaresLessSquareOfMean,
}


def normalised_wrongly(mutant: str, x: Array, eps: float = 1e-5) -> Array:
    """What one of MUTANTS makes of a batch, gamma = 1 and beta = 0. Shapes: (m, d) -> the same."""
    d = x.shape[1]
    return MUTANTS[mutant]().forward(x, np.ones(d), np.zeros(d), eps)[0]


def output_spreads(spreads: Array) -> tuple[Array, dict]:
    """Deviation of the output for four values of a given spread: Algorithm 1, each mutant.

    Without the one-pass variance, which is right for centred values. Shapes: (spreads,) each.
    """
    four = np.array([[-1.5], [-0.5], [0.5], [1.5]]) / np.sqrt(1.25)  # mean 0, variance 1
    batches = [spread * four for spread in spreads]
    wrong = {
        mutant: np.array([normalised_wrongly(mutant, batch).std() for batch in batches])
        for mutant in MUTANTS
        if mutant != ONE_PASS
    }
    return np.array([normalised(batch).std() for batch in batches]), wrong


def one_pass_damage(mean: float, deviation: float, m: int, features: int, rng: Generator) -> tuple:
    """What the variance as E[x²] − E[x]², a small difference of large numbers, does in float32.

    Returns the shares of features with a negative variance and of those that normalise to NaN with
    eps = 1e-5, and the median distance of variance found / true variance of the batch from 1.
    """
    x = (mean + deviation * rng.normal(size=(m, features))).astype(np.float32)
    in_one_pass = (x * x).mean(axis=0) - x.mean(axis=0) ** 2
    wrong = np.abs(in_one_pass / x.astype(np.float64).var(axis=0) - 1)
    nan = in_one_pass + 1e-5 < 0
    return float(np.mean(in_one_pass < 0)), float(np.mean(nan)), float(np.median(wrong))
