"""Experiments on the Batch Normalization transform: Algorithm 1, gamma and beta, placement, scale
(Sections 3 to 3.3).

NumPy, on top of ``bnkit.reference``; the small networks, many of them side by side, are those of
``bnkit.networks.many_numpy``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bnkit import datasets, reference
from bnkit.networks import many_numpy

# The size of a normalised value


def normalised(x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """The x_hat of Algorithm 1, before gamma and beta. Shapes: (m, d) -> (m, d)."""
    d = x.shape[1]
    return reference.forward(x, np.ones(d), np.zeros(d), eps)[1].x_hat


def line_by_line(
    x: np.ndarray, gamma: float, beta: float, eps: float = 0.0
) -> dict[str, np.ndarray]:
    """What each line of Algorithm 1 makes of one feature, x (m,). Mean and variance have shape
    (1,), the rest (m,).
    """
    y, cache = reference.forward(x[:, None], np.array([gamma]), np.array([beta]), eps)
    return {
        "mean": cache.mean,
        "variance": cache.var,
        "normalised": cache.x_hat[:, 0],
        "output": y[:, 0],
    }


# Statistics of a mini-batch


def statistics_error(
    x: np.ndarray, sizes: Sequence[int], batches: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """How far the mean and the (unbiased) variance of a random mini-batch are from those of the
    whole set x (n, d).

    Root mean squares over `batches` mini-batches and all features, drawn with replacement; the mean
    in units of the feature's standard deviation, the variance in units of its variance. Shapes:
    (sizes,) both.
    """
    mean, variance = x.mean(axis=0), x.var(axis=0)
    errors = []
    for m in sizes:
        drawn = x[rng.integers(len(x), size=(m, batches))]  # (m, batches, d)
        found = reference.observe(
            None, drawn.reshape(m, -1)
        )  # one feature for each batch and feature
        of_mean = np.mean((found.mean.reshape(batches, -1) - mean) ** 2 / variance)
        of_variance = np.mean((found.var.reshape(batches, -1) / variance - 1) ** 2)
        errors.append((of_mean, of_variance))
    return tuple(np.sqrt(errors).T)


def in_company(a: float, m: int, batches: int, rng: np.random.Generator) -> np.ndarray:
    """The normalised value of one example, `a`, in batches with m - 1 others drawn from N(0, 1).
    Shape: (batches,).
    """
    x = rng.normal(size=(m, batches))  # one feature for each batch
    x[0] = a
    return normalised(x)[0]


def expected_noise(a: float, m: np.ndarray) -> np.ndarray:
    """Standard deviation of ``in_company`` for large m: the batch mean has variance 1/m, its
    deviation 1/(2m).
    """
    return np.sqrt((1 + a**2 / 2) / m)


def classes_on_a_line(per_class: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One feature, ten classes: variance 1 within each, their centres so far apart that the whole
    has variance 4.36.

    Both variances are exact. Returns values (10 * per_class, 1), class after class, and labels.
    """
    labels = np.repeat(np.arange(10), per_class)
    centres = (labels - 4.5) * np.sqrt(3.36 / 8.25)  # 8.25 is the variance of 0..9
    within = normalised(rng.normal(size=(per_class, 10)), eps=0.0)
    return (centres + within.T.ravel())[:, None], labels


def averaged(x: np.ndarray, batch_size: int) -> reference.Population:
    """Algorithm 2's averages over the mini-batches of x, taken in the order in which x stands."""
    d = x.shape[1]
    batches = x[: len(x) // batch_size * batch_size].reshape(-1, batch_size, d)
    found = reference.observe(
        None, batches.transpose(1, 0, 2).reshape(batch_size, -1)
    )  # a feature for each batch
    mean, var = (each.reshape(-1, d).mean(axis=0) for each in found[:2])
    return reference.Population(mean, var, len(batches))


# What one unit can represent with and without gamma and beta


class UnitFit(NamedTuple):
    """One sigmoid unit fitted to a curve."""

    output: np.ndarray  # (m,), where the training ended
    losses: np.ndarray  # (steps,), half the mean squared error


def fit_unit(u: np.ndarray, target: np.ndarray, learn: bool, steps: int, rate: float) -> UnitFit:
    """Fit ``a * sigmoid(BN(w u)) + c`` to a curve, with gamma and beta learned or fixed at 1 and 0.

    a and c are the best there are, by least squares, at every step; gamma and beta learn by
    gradient descent. The weight w is left out, because without it BN(w u) is the same. Shapes: u
    and target (m,).
    """
    gamma, beta, losses = np.ones(1), np.zeros(1), np.empty(steps)
    for step in range(steps):
        y, cache = reference.forward(u[:, None], gamma, beta)
        z = 1 / (1 + np.exp(-y))
        design = np.hstack([z, np.ones_like(z)])
        a, c = np.linalg.lstsq(design, target)[0]
        error = a * z + c - target[:, None]
        losses[step] = np.mean(error**2) / 2
        # a and c are at their best, where the loss has no slope in them: what is left is the slope
        # through y alone
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
    losses: np.ndarray  # (settings, seeds, steps), of the mini-batch before the step
    weight_norms: (
        np.ndarray
    )  # (settings, seeds, steps), of the first hidden layer's weights before the step
    accuracies: np.ndarray  # (settings, seeds), on the test set, with population statistics

    @property
    def final_losses(self) -> np.ndarray:
        """Mean of the training loss over the last sixth of the steps; from ln 10 on, nothing was
        learned.
        """
        return self.losses[..., -max(1, self.losses.shape[-1] // 6) :].mean(axis=-1)


class Digits(NamedTuple):
    """scikit-learn's digits: pixels from 0 to 1 in rows (n, 64), float32; labels (n,)."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_digits() -> Digits:
    """The digits that are always there."""
    found = datasets.load("digits")
    images, test_images = (
        each.reshape(len(each), -1).astype(np.float32) / found.white
        for each in (found.train_images, found.test_images)
    )
    return Digits(images, found.train_labels, test_images, found.test_labels)


def compare(
    digits: Digits,
    activation: str,
    place: str,
    settings: Sequence[Rates],
    *,
    seeds: int,
    steps: int,
    batch_size: int = 60,
    width: int = 64,
    batches: Iterator[np.ndarray] | None = None,
) -> Outcome:
    """Train networks with two hidden layers of `width` units, `seeds` of them at each of
    `settings`, and test them.

    `place` is where the normalisation stands: "before" the nonlinearity (Section 3.2), "after" it,
    or "none". Weights are drawn from N(0, 0.1 squared). A seed means the same initial weights, and
    the same mini-batches unless `batches` are given, at every setting and place.
    """
    columns = [seed for _ in settings for seed in range(seeds)]
    norm, place = place != "none", "after" if place == "after" else "before"
    networks = many_numpy.build(
        digits.images.shape[1],
        width,
        2,
        10,
        activation,
        norm,
        lambda *_: 0.1,
        columns,
        place=place,
        dtype=np.float32,
    )
    batches = batches or shuffled(len(digits.labels), batch_size, columns)
    losses, norms = train(
        networks, digits, batches, [each for each in settings for _ in range(seeds)], steps
    )
    populations = collect(networks, digits.images, batches, 20) if norm else None
    found = many_numpy.accuracy(networks, digits.test_images, digits.test_labels, populations)
    shape = (len(settings), seeds)
    return Outcome(
        networks, losses.reshape(*shape, -1), norms.reshape(*shape, -1), found.reshape(shape)
    )


def train(
    networks: many_numpy.Stack,
    digits: Digits,
    batches: Iterator[np.ndarray],
    rates: Sequence[Rates],
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Plain gradient descent of S networks in place, each on mini-batches (S, m) and with rates of
    its own.

    Returns the loss of each mini-batch and the norm of the first layer's weights, both before the
    step, (S, steps).
    """
    of_weights, of_gamma_beta, of_output = np.array(rates, dtype=np.float32).T
    losses, norms = [], []
    for _ in range(steps):
        chosen = next(batches)
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # a network that diverges is taken out by ``descend``
            outputs, tape = many_numpy.forward(networks, digits.images[chosen])
            loss, d_outputs = many_numpy.cross_entropy(outputs, digits.labels[chosen])
            gradients, _ = many_numpy.backward(networks, tape, d_outputs)
        losses.append(loss)
        norms.append(np.linalg.norm(networks.layers[0]["weight"], axis=(1, 2)))
        for index, gradient in enumerate(gradients):
            for name, value in gradient.items():
                rate = (
                    of_output
                    if index == networks.depth
                    else of_gamma_beta
                    if name in many_numpy.PAIR
                    else of_weights
                )
                value *= rate.reshape(-1, *[1] * (value.ndim - 1))
        many_numpy.descend(networks, gradients, 1.0)
    return np.stack(losses, 1), np.stack(norms, 1)


def collect(
    networks: many_numpy.Stack, images: np.ndarray, batches: Iterator[np.ndarray], count: int
) -> list:
    """Algorithm 2, lines 8 to 10: with fixed parameters, average the statistics of `count` training
    mini-batches.
    """
    populations = None
    for _ in range(count):
        populations = many_numpy.observe(networks, images[next(batches)], populations)
    return populations


def shuffled(n: int, batch_size: int, seeds: Sequence[int]) -> Iterator[np.ndarray]:
    """Mini-batches in random order, for each network its own. Yields indices (S, batch_size)."""
    streams = [datasets.batches(n, batch_size, seed) for seed in seeds]
    while True:
        yield np.stack([next(stream) for stream in streams])


def of_few_classes(
    labels: np.ndarray, batch_size: int, classes: Sequence[int], seeds: Sequence[int]
) -> Iterator[np.ndarray]:
    """Mini-batches with examples of ``classes[s]`` random classes only, equally many of each, for
    network s.

    `batch_size` must be a multiple of each number of classes. Yields indices (S, batch_size).
    """
    members = [np.flatnonzero(labels == label) for label in range(10)]
    generators = [np.random.default_rng(seed) for seed in seeds]

    def one(count: int, rng: np.random.Generator) -> np.ndarray:
        draws = rng.random(
            (count, batch_size // count)
        )  # where in its class an example stands, from 0 to 1
        chosen = [members[label] for label in rng.permutation(10)[:count]]
        return np.concatenate(
            [all_of[(len(all_of) * u).astype(int)] for all_of, u in zip(chosen, draws, strict=True)]
        )

    while True:
        yield np.stack([one(count, rng) for count, rng in zip(classes, generators, strict=True)])


def placements(
    digits: Digits, rates: Sequence[float], **size: int
) -> dict[str, dict[str, Outcome]]:
    """Networks normalised "before" and "after" the nonlinearity, all else equal: outcome by
    activation and place.

    `size` goes to ``compare``: seeds, steps, batch_size, width.
    """
    settings = [Rates.equal(rate) for rate in rates]
    return {
        activation: {
            place: compare(digits, activation, place, settings, **size)
            for place in many_numpy.PLACES
        }
        for activation in ("sigmoid", "relu")
    }


def learn_from_few_classes(
    digits: Digits, place: str, classes: Sequence[int], *, seeds: int, batch_size: int, **size: int
) -> np.ndarray:
    """Test accuracy of ReLU networks trained on mini-batches of `classes` classes each. Shape
    (seeds, classes).
    """
    columns = [(count, seed) for count in classes for seed in range(seeds)]
    batches = of_few_classes(digits.labels, batch_size, *zip(*columns, strict=True))
    settings = [Rates.equal(0.1)] * len(classes)
    return compare(
        digits, "relu", place, settings, seeds=seeds, batches=batches, **size
    ).accuracies.T


def answer_among_few_classes(
    digits: Digits, healthy: Outcome, classes: Sequence[int], count: int = 15
) -> np.ndarray:
    """Accuracy of trained networks in test batches of 20 from few classes, normalised by the
    batch's own statistics.

    Of the networks at the first setting of `healthy`. Shape (seeds, classes).
    """
    seeds = healthy.accuracies.shape[1]
    layers = [
        {name: value[:seeds] for name, value in layer.items()} for layer in healthy.networks.layers
    ]
    networks = replace(healthy.networks, layers=layers)
    found = []
    for each in classes:
        batches = of_few_classes(digits.test_labels, 20, [each] * seeds, range(seeds))
        chosen = np.stack([next(batches) for _ in range(count)])  # (count, seeds, 20)
        outputs = [many_numpy.forward(networks, digits.test_images[part])[0] for part in chosen]
        found.append((np.argmax(outputs, axis=-1) == digits.test_labels[chosen]).mean(axis=(0, 2)))
    return np.array(found).T


def around_the_nonlinearity(outcome: Outcome, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of the second hidden layer before (Wu, not normalised) and after its nonlinearity,
    each unit standardised.

    All units of all networks together; those that never vary, such as dead ones, are left out.
    Shapes: (values,) both.
    """
    second = many_numpy.forward(outcome.networks, images)[1][
        1
    ]  # normalised by this batch, as in training
    return _standardised_units(second.x), _standardised_units(second.g)


def _standardised_units(x: np.ndarray) -> np.ndarray:
    values = x.transpose(1, 0, 2).reshape(x.shape[1], -1).astype(float)  # (n, S * units)
    values = values[:, values.std(axis=0) > 1e-6]
    return ((values - values.mean(axis=0)) / values.std(axis=0)).ravel()


# Scale


def layer_and_gradients(
    weight: np.ndarray, u: np.ndarray, upstream: np.ndarray, eps: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """BN(Wu) for one mini-batch, and the gradients for u and W of the loss whose gradient for the
    output is `upstream`.

    Shapes: weight (inputs, d), u (m, inputs), upstream (m, d) -> (m, d), (m, inputs), (inputs, d).
    """
    d = weight.shape[1]
    y, cache = reference.forward(u @ weight, np.ones(d), np.zeros(d), eps)
    dx, _, _ = reference.backward(upstream, cache)
    return y, dx @ weight.T, u.T @ dx


def scaled(factors: np.ndarray, x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviation of BN(a x) for each factor a, measured and by the formula; x (m, 1).
    Shapes: (factors,).
    """
    measured = np.array([normalised(a * x, eps).std() for a in factors])
    sigma = factors * x.std()
    return measured, sigma / np.sqrt(sigma**2 + eps)


# Failure gallery: what other programs normalise with


def _divided(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / by


MUTANTS = {
    "divides by the variance": lambda x, eps: _divided(x, x.var(axis=0) + eps),
    "ε outside the root": lambda x, eps: _divided(x, x.std(axis=0) + eps),
    "unbiased variance": lambda x, eps: _divided(x, np.sqrt(x.var(axis=0, ddof=1) + eps)),
    "E[x²] − E[x]²": lambda x, eps: _divided(x, np.sqrt(one_pass_variance(x) + eps)),
}


def one_pass_variance(x: np.ndarray) -> np.ndarray:
    """A mutant: the variance as E[x^2] - E[x]^2, a small difference of large numbers where the mean
    is large. (d,).
    """
    return (x * x).mean(axis=0) - x.mean(axis=0) ** 2


def output_spreads(
    spreads: np.ndarray, eps: float = 1e-5
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Standard deviation of the output for a batch of four values of a given spread: Algorithm 1,
    then each mutant.

    Without the one-pass variance, which is right for centred values. Shapes: (spreads,) each.
    """
    four = np.array([[-1.5], [-0.5], [0.5], [1.5]]) / np.sqrt(1.25)  # mean 0, variance 1
    ways = {
        name: mutant for name, mutant in MUTANTS.items() if mutant is not MUTANTS["E[x²] − E[x]²"]
    }
    right = np.array([normalised(s * four, eps).std() for s in spreads])
    return right, {
        name: np.array([way(s * four, eps).std() for s in spreads]) for name, way in ways.items()
    }


def one_pass_damage(
    mean: float, deviation: float, m: int, features: int, rng: np.random.Generator
) -> tuple:
    """What ``one_pass_variance`` does in float32: shares of negative variances and of NaN, and the
    median error.

    Returns three shares: of features with a negative variance, of features that normalise to NaN
    with eps = 1e-5, and the median distance of variance found / true variance of the batch from 1.
    """
    x = (mean + deviation * rng.normal(size=(m, features))).astype(np.float32)
    found, true = one_pass_variance(x), x.astype(np.float64).var(axis=0)
    return (
        float(np.mean(found < 0)),
        float(np.mean(found + 1e-5 < 0)),
        float(np.median(np.abs(found / true - 1))),
    )
