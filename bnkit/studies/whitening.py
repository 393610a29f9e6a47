"""Chapter 3: what whitening buys and what it costs (Sections 2 and 3), in six small experiments.

The maps themselves are in ``bnkit.whitening``; here they are put to work. NumPy only.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import count, pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bnkit import datasets, whitening
from bnkit.networks import many_numpy
from bnkit.networks.digits import GAINS, Digits
from bnkit.studies import shift

Array = np.ndarray
Fit = Callable[[Array], whitening.Whitening]  # whitening of a batch

# Data


def tilted_cloud(m: int, rng: Generator) -> Array:
    """A Gaussian cloud (m, 2), off centre, five times as wide as high before it is turned."""
    turn = np.radians(35)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return rng.normal(size=(m, 2)) * (2.5, 0.5) @ rotation + (3.0, 1.0)


def correlated(m: int, d: int, condition: float, rng: Generator) -> Array:
    """Centred data with covariance eigenvalues 1 to 1 / `condition` exactly, in random directions.

    Shape (m, d), m > d.
    """
    x = rng.normal(size=(m, d))
    # this very batch has the identity as its covariance, not only its distribution
    white = whitening.zca(x)(x)
    rotation, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return white * np.sqrt(np.geomspace(1, 1 / condition, d)) @ rotation


def varying(images: Array) -> tuple[Array, Array]:
    """Images as rows without the pixels that are the same in all of them, and which were kept.

    Shapes: (n, h, w) -> (n, kept) float, (h * w,) bool.
    """
    pixels = images.reshape(len(images), -1).astype(float)
    kept = np.ptp(pixels, axis=0) > 0
    return pixels[:, kept], kept


def pooled(images: Array) -> Array:
    """Images at half the resolution, means of 2 x 2 pixels, as rows: (n, h, w) -> (n, h w / 4)."""
    n, height, width = images.shape
    return images.reshape(n, height // 2, 2, width // 2, 2).mean(axis=(2, 4)).reshape(n, -1)


class Pixels(NamedTuple):
    """Training images as data to whiten: rows, without the pixels that never change."""

    data: datasets.Dataset
    pixels: Array  # (1500, kept)
    kept: Array  # (64,) bool: the pixels that vary

    @property
    def one_hot(self) -> Array:
        """A one in the column of the right class, (1500, 10)."""
        return np.eye(10)[self.data.train_labels]

    @property
    def coarse(self) -> Array:
        """The training images at half their resolution, (1500, 16)."""
        return pooled(self.data.train_images)

    @property
    def bold(self) -> Array:
        """One digit without a blank pixel, (1, 64)."""
        return self.data.train_images[:1].reshape(1, 64) + 1.0

    def pictures(self, rows: Array) -> Array:
        """The first image of six classes, of `rows` (1500, kept), blank pixels 0: (6, 8, 8)."""
        chosen = [int((self.data.train_labels == label).argmax()) for label in (0, 1, 3, 4, 5, 7)]
        images = np.zeros((6, 64))
        images[:, self.kept] = rows[chosen]
        return images.reshape(6, 8, 8)

    def accuracy(self, descent: "Descent", fit: Fit) -> float:
        """Share of test digits named correctly by `descent`'s model, trained behind `fit`."""
        test = self.data.test_images.reshape(-1, 64)[:, self.kept].astype(float)
        scores = fit(self.pixels)(test) @ descent.weights[:-1] + descent.weights[-1]
        return float(np.mean(scores.argmax(1) == self.data.test_labels))


def digits() -> Pixels:
    """The digits of scikit-learn, ready to be whitened."""
    data = datasets.load("digits")
    return Pixels(data, *varying(data.train_images))


# Whitening helps a linear model


class Descent(NamedTuple):
    """Gradient descent on a least-squares problem."""

    condition: float  # of the Hessian: largest over smallest curvature
    excess: Array  # (steps + 1,), (loss - smallest possible loss) / (the same at the start)
    weights: Array  # (d + 1, k), where the descent ended; the last row is the bias

    def steps_to(self, excess: float) -> int | None:
        """The first step at which the excess loss is at most `excess`; None: never."""
        reached = np.flatnonzero(self.excess <= excess)
        return int(reached[0]) if len(reached) else None

    def told(self, excess: float) -> tuple[str, str]:
        """The condition number and ``steps_to(excess)`` in words."""
        step, never = self.steps_to(excess), f"more than {len(self.excess) - 1:,}"
        return f"{self.condition:,.0f}", never if step is None else f"{step:,}"


def descend(x: Array, targets: Array, steps: int) -> Descent:
    """Fit ``targets ~ x @ weights + bias`` by full-batch gradient descent at the best fixed rate.

    Shapes: x (m, d), targets (m, k). The best constant rate for a quadratic is 2 / (largest +
    smallest curvature); each step shrinks a distance by (condition - 1) / (condition + 1) at least.
    """
    z = np.column_stack([x, np.ones(len(x))])
    hessian, moment = z.T @ z / len(z), z.T @ targets / len(z)
    curvatures = np.linalg.eigvalsh(hessian)
    rate = 2 / (curvatures[0] + curvatures[-1])
    best = np.linalg.solve(hessian, moment)
    weights, excess = np.zeros_like(best), np.empty(steps + 1)
    for step in range(steps + 1):
        away = weights - best
        excess[step] = np.sum(away * (hessian @ away))
        if step < steps:
            weights = weights - rate * (hessian @ weights - moment)
    return Descent(float(curvatures[-1] / curvatures[0]), excess / excess[0], weights)


def unchanged(x: Array) -> whitening.Whitening:
    """The map that leaves a batch as it is, in the form of the others."""
    return whitening.Whitening(np.zeros(x.shape[1]), np.eye(x.shape[1]))


def descents(x: Array, targets: Array, kinds: Mapping[str, Fit], steps: int) -> dict[str, Descent]:
    """``descend`` on the inputs that each of several maps makes of `x`."""
    return {name: descend(fit(x)(x), targets, steps) for name, fit in kinds.items()}


# Whitening the inputs of a layer that moves


def moved_inputs(
    maps: Mapping[str, Fit], *, seeds: int, steps: int, every: int = 10, rate: float = 1.0
) -> dict[str, Array]:
    """How far the inputs of the last hidden layer move while a network learns, by map: (seeds,).

    Sigmoid networks learn the digits, without any normalisation. Every `every` steps 500 images
    pass, and each of `maps`, fitted to the inputs u of the last hidden layer at that moment, turns
    them into what the layer would see. The mean of ``shift.distance`` between two looks.
    """
    digits, images, rows = Digits.load(), 500, {name: [] for name in maps}
    networks = digits.build("sigmoid", False, GAINS["sigmoid"], range(seeds), 3, 20)
    for step, _ in many_numpy.train(networks, digits.x, digits.labels, rate, steps, 50):
        if step % every == 0:
            u = many_numpy.forward(networks, digits.x[:images])[1][2].u.astype(float)
            for name, fit in maps.items():
                rows[name].append(np.stack([fit(inputs)(inputs) for inputs in u]))
    return {
        name: np.mean([shift.distance(*pair) for pair in pairwise(looks)], axis=0)
        for name, looks in rows.items()
    }


# Normalisation behind the optimiser's back


class Drift(NamedTuple):
    """One parameter and the loss, step by step. Shapes: (steps + 1,) both."""

    parameter: Array
    loss: Array


def drifting_bias(u: Array, targets: Array, rate: float, steps: int, through_mean: bool) -> Drift:
    """Section 2's example: learn b in x = u + b, behind the centring x_hat = x - mean(x).

    The loss is mean((x_hat - target)²) / 2. If `through_mean` is False, the step takes the mean for
    a constant, as if somebody else centred x. Shapes (m,).
    """
    b, biases, losses = 0.0, [], []
    for _ in range(steps + 1):
        x = u + b
        error = x - x.mean() - targets  # = dl/dx_hat, up to 1/m
        biases.append(b)
        losses.append(np.mean(error**2) / 2)
        # dl/dx: the mean moves along with x, or not
        gradient = error - error.mean() if through_mean else error
        b -= rate * gradient.mean()
    return Drift(np.array(biases), np.array(losses))


def drifting_weight(u: Array, targets: Array, rate: float, steps: int, through: bool) -> Drift:
    """The same with a scale: learn w in x = w u, standardised, from w = 1. Shapes (m,)."""
    w, weights, losses = 1.0, [], []
    for _ in range(steps + 1):
        x = w * u
        x_hat = (x - x.mean()) / x.std()
        error = x_hat - targets
        weights.append(w)
        losses.append(np.mean(error**2) / 2)
        gradient = error
        if through:
            gradient = error - error.mean() - x_hat * np.mean(error * x_hat)
        w -= rate * np.mean(gradient * u) / x.std()
    return Drift(np.array(weights), np.array(losses))


# What full whitening costs


def ranks(sizes: list[int], d: int, rng: Generator) -> list[int]:
    """The rank of the covariance of a Gaussian mini-batch with `d` features, by its size."""
    return [whitening.rank(rng.normal(size=(m, d))) for m in sizes]


def refused(x: Array) -> str:
    """What ``whitening.zca`` says when it refuses a batch; AssertionError if it does not."""
    try:
        whitening.zca(x)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"a batch of shape {x.shape} was whitened")


def operations(d: int, m: int) -> dict[str, float]:
    """Additions and multiplications to normalise a batch of m examples, d features; leading terms.

    Eigenvectors of a symmetric matrix cost about 9 d^3 (tridiagonal reduction, implicit QR).
    """
    around = 2 * m * d**2 + 2 * m * d**2  # form the covariance, apply the matrix
    return {
        "standardized": 5 * m * d,  # mean: 1, centre: 1, variance: 2, divide: 1
        "Newton–Schulz": around + 5 * 3 * 2 * d**3,  # 5 iterations of three products
        "ZCA": around + 9 * d**3 + 2 * d**3,  # eigenvectors, and putting Cov^(-1/2) together
    }


def slowdown(d: int, m: int, rng: Generator, repeats: int = 5) -> float:
    """How many times as long ``eigh`` of a d x d covariance takes as the batch's deviations.

    The shortest of `repeats` runs counts for each, the two taking turns: other work on the machine
    can only make a run longer, and meets both.
    """
    x = rng.normal(size=(m, d))
    covariance = whitening.covariance(x)
    works = (lambda: np.linalg.eigh(covariance), lambda: x.std(axis=0))
    times = np.array([[_seconds(work) for work in works] for _ in range(repeats)])
    eigh, std = times.min(axis=0)
    return float(eigh / std)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# Where whitening has no derivative


def whitening_matrix(kind: str, covariance: Array) -> Array:
    """The matrix by which ``pca`` or ``zca`` multiplies a centred batch, for (d, d) covariance."""
    eigenvalues, axes = np.linalg.eigh(covariance)
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(axes))])
    scaled = axes / np.sqrt(eigenvalues)
    return {"pca": scaled, "zca": scaled @ axes.T}[kind]


def sensitivity(kind: str, eigenvalues: tuple[float, float], along: Array) -> float:
    """How fast the whitening matrix moves as covariance diag(`eigenvalues`) moves `along`.

    A central difference, in the Frobenius norm, its step far below eigenvalues and their gap.
    """
    step = 1e-3 * min(*eigenvalues, abs(eigenvalues[0] - eigenvalues[1]) or np.inf)
    moved = (np.diag(eigenvalues) + sign * step * along for sign in (1, -1))
    above, below = (whitening_matrix(kind, covariance) for covariance in moved)
    return float(np.linalg.norm(above - below) / (2 * step))


def zca_change(covariance: Array, along: Array) -> Array:
    """The derivative of Cov^(-1/2) along a symmetric matrix, where Cov can be inverted; (d, d).

    Divided differences of 1/sqrt, written so that equal eigenvalues are no division by zero.
    """
    eigenvalues, axes = np.linalg.eigh(covariance)
    roots = np.sqrt(eigenvalues)
    quotients = -1 / (np.outer(roots, roots) * np.add.outer(roots, roots))
    return axes @ (quotients * (axes.T @ along @ axes)) @ axes.T


def zca_change_through_eigenvectors(covariance: Array, along: Array) -> Array:
    """The same derivative by the chain rule through ``eigh``, as automatic differentiation has it.

    They change by 1 / (difference of two eigenvalues): equal ones give 0/0. Keeps the dtype.
    """
    eigenvalues, axes = np.linalg.eigh(covariance)
    change = axes.T @ along @ axes
    gaps = np.subtract.outer(eigenvalues, eigenvalues).T  # [i, j]: eigenvalue j - eigenvalue i
    np.fill_diagonal(gaps, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):  # it is the point
        axes_change = axes @ (change / gaps)
    power, power_change = eigenvalues**-0.5, -0.5 * eigenvalues**-1.5 * np.diag(change)
    with np.errstate(invalid="ignore"):
        half = (axes_change * power) @ axes.T
        return half + half.T + (axes * power_change) @ axes.T


def float32_errors(gaps: list[float], rng: Generator) -> dict[str, tuple[list[float], Array]]:
    """Relative errors of both ways to ZCA's derivative in float32, for eigenvalues `gaps` apart.

    Returns the name of the way -> (gaps, errors); an error is NaN where the way gave NaN.
    """
    d = 8
    rotation, _ = np.linalg.qr(rng.normal(size=(d, d)))
    along = rng.normal(size=(d, d))
    along = along + along.T
    ways = {
        "through the eigenvectors": zca_change_through_eigenvectors,
        "by divided differences": zca_change,
    }
    errors = {name: [] for name in ways}
    for gap in gaps:
        covariance = rotation * (1 + gap * np.arange(d)) @ rotation.T
        covariance = (covariance + covariance.T) / 2
        exact = zca_change(covariance, along)
        for name, way in ways.items():
            rounded = way(covariance.astype(np.float32), along.astype(np.float32))
            errors[name].append(np.linalg.norm(rounded - exact) / np.linalg.norm(exact))
    return {name: (list(gaps), np.array(error)) for name, error in errors.items()}


# Without eigenvectors


def whitened_axes(x: Array, counts: Iterable[int]) -> tuple[Array, dict[int, Array]]:
    """Share of each axis in the total variance, and its variance after Newton–Schulz iterations.

    Returns (d,) shares in falling order, and for each of `counts` iterations the (d,) variances.
    """
    eigenvalues, axes = np.linalg.eigh(whitening.covariance(x))
    variances = {k: np.var(whitening.newton_schulz(x, k)(x) @ axes, axis=0)[::-1] for k in counts}
    return eigenvalues[::-1] / eigenvalues.sum(), variances


def iterations_to_white(x: Array) -> int:
    """Newton–Schulz iterations until the covariance of `x` is within 1e-8 of the identity."""
    return next(k for k in count() if far_from_white(whitening.newton_schulz(x, k)(x)) < 1e-8)


# What a mini-batch does to one example


def disturbance(fit: Fit, x: Array, sizes: list[int], batches: int, rng: Generator) -> Array:
    """How much the output of a fixed example depends on the mini-batch it is normalised with.

    For each batch size: the root mean square, over `batches` mini-batches and ten examples, of an
    output feature's distance from its mean over the mini-batches; the output's scale is 1. Shapes:
    x (n, d) -> (sizes,). Huang et al. (2019) call it stochastic normalisation disturbance.
    """
    spreads = []
    for m in sizes:
        # batches of (10, d)
        outputs = [fit(x[rng.integers(len(x), size=m)])(x[:10]) for _ in range(batches)]
        spreads.append(np.sqrt(np.var(outputs, axis=0).mean()))
    return np.array(spreads)


# Failure gallery


def standardise_each_image(x: Array) -> Array:
    """A mutant: each example to mean 0 and variance 1 over its own features."""
    return (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)


def divide_by_eigenvalues(x: Array) -> Array:
    """A mutant of ``pca``: the square root is forgotten."""
    eigenvalues, axes = np.linalg.eigh(whitening.covariance(x))
    return (x - x.mean(axis=0)) @ axes / eigenvalues


def axes_as_rows(x: Array) -> Array:
    """A mutant of ``zca``: takes rows of ``eigh``'s second result for the eigenvectors."""
    eigenvalues, axes = np.linalg.eigh(whitening.covariance(x))
    return (x - x.mean(axis=0)) @ (axes.T / np.sqrt(eigenvalues) @ axes)


def forget_mean_and_count(x: Array) -> Array:
    """A mutant of ``zca``: decomposes x.T @ x, neither centred nor divided by m."""
    eigenvalues, axes = np.linalg.eigh(x.T @ x)
    return x @ (axes / np.sqrt(eigenvalues) @ axes.T)


MUTANTS = {
    "standardizes each image by itself": standardise_each_image,
    "divides by the eigenvalue, not its root": divide_by_eigenvalues,
    "takes eigenvectors for rows": axes_as_rows,
    "forgets the mean and 1/m": forget_mean_and_count,
}


def far_from_white(x: Array) -> float:
    """The largest distance of the covariance from the identity, or of a mean from 0."""
    away = np.abs(whitening.covariance(x) - np.eye(x.shape[1]))
    return float(max(away.max(), np.abs(x.mean(axis=0)).max()))


def newton_uncoupled(covariance: Array, iterations: int) -> Array:
    """A mutant of ``newton_schulz``, (d, d): P <- (3P - P P P S) / 2, as it is usually printed.

    Right for a handful of iterations; then rounding errors that do not commute with S double.
    """
    total = np.trace(covariance)
    inverse_root = np.eye(len(covariance))
    with np.errstate(over="ignore", invalid="ignore"):  # it is the point
        for _ in range(iterations):
            cube = inverse_root @ inverse_root @ inverse_root
            inverse_root = (3 * inverse_root - cube @ covariance / total) / 2
    return inverse_root / np.sqrt(total)


def both_newtons(x: Array, counts: Iterable[int]) -> tuple[dict[int, float], dict[int, float]]:
    """Largest error in the covariance after so many iterations: coupled, and as printed."""
    covariance = whitening.covariance(x)
    coupled = {k: far_from_white(whitening.newton_schulz(x, k)(x)) for k in counts}
    printed, identity = {}, np.eye(len(covariance))
    for k in counts:
        root = newton_uncoupled(covariance, k)
        printed[k] = float(np.abs(root @ covariance @ root - identity).max())
    return coupled, printed
