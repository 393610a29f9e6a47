"""Experiments on the Batch Normalization transform: Algorithm 1, gamma and beta, placement, scale (Sections 3 to 3.3).

What needs no network is NumPy, on top of ``bnkit.reference``. The small networks are torch with ``bnkit.layers``, and
many of them are trained side by side, see ``Networks``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnkit import datasets, reference
from bnkit.layers import BatchNorm

# The size of a normalised value


def normalised(x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """The x_hat of Algorithm 1, before gamma and beta. Shapes: (m, d) -> (m, d)."""
    d = x.shape[1]
    return reference.forward(x, np.ones(d), np.zeros(d), eps)[1].x_hat


def largest_values(sizes: Sequence[int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The largest normalised value of a batch in which one value differs, and the typical one of Gaussian batches.

    Typical is the median over 2,000 batches; eps is 0. Shapes: (sizes,) both.
    """
    one_differs = [np.abs(normalised(np.eye(m)[:, :1], eps=0.0)).max() for m in sizes]
    gaussian = [np.median(np.abs(normalised(rng.normal(size=(m, 2_000)), eps=0.0)).max(axis=0)) for m in sizes]
    return np.array(one_differs), np.array(gaussian)


# Statistics of a mini-batch


def statistics_error(
    x: np.ndarray, sizes: Sequence[int], batches: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """How far the mean and the (unbiased) variance of a random mini-batch are from those of the whole set x (n, d).

    Root mean squares over `batches` mini-batches and all features, drawn with replacement; the mean in units of the
    feature's standard deviation, the variance in units of its variance. Shapes: (sizes,) both.
    """
    mean, variance = x.mean(axis=0), x.var(axis=0)
    errors = []
    for m in sizes:
        found = [reference.observe(None, x[rng.integers(len(x), size=m)]) for _ in range(batches)]
        of_mean = np.mean([(each.mean - mean) ** 2 / variance for each in found])
        of_variance = np.mean([(each.var / variance - 1) ** 2 for each in found])
        errors.append((of_mean, of_variance))
    return tuple(np.sqrt(errors).T)


def classes_on_a_line(per_class: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One feature, ten classes: variance 1 within each, their centres so far apart that the whole has variance 4.36.

    Both variances are exact. Returns values (10 * per_class, 1), class after class, and labels.
    """
    labels = np.repeat(np.arange(10), per_class)
    centres = (labels - 4.5) * np.sqrt(3.36 / 8.25)  # 8.25 is the variance of 0..9
    within = normalised(rng.normal(size=(per_class, 10)), eps=0.0)
    return (centres + within.T.ravel())[:, None], labels


def averaged(x: np.ndarray, batch_size: int) -> reference.Population:
    """Algorithm 2's averages over the mini-batches of x, taken in the order in which x stands."""
    found = None
    for start in range(0, len(x) - batch_size + 1, batch_size):
        found = reference.observe(found, x[start : start + batch_size])
    return found


# What one unit can represent with and without gamma and beta


class UnitFit(NamedTuple):
    """One sigmoid unit fitted to a curve."""

    output: np.ndarray  # (m,), where the training ended
    losses: np.ndarray  # (steps,)


def fit_unit(u: np.ndarray, target: np.ndarray, learn: bool, steps: int, rate: float) -> UnitFit:
    """Fit ``a * sigmoid(BN(w u)) + c`` to a curve by full-batch gradient descent; gamma and beta learned, or 1 and 0.

    Shapes: u and target (m,). The weight w is left out, because without it BN(w u) is the same.
    """
    gamma, beta, a, c = np.ones(1), np.zeros(1), 1.0, 0.0
    losses = np.empty(steps)
    for step in range(steps):
        y, cache = reference.forward(u[:, None], gamma, beta)
        z = 1 / (1 + np.exp(-y))
        error = a * z + c - target[:, None]
        losses[step] = np.mean(error**2) / 2
        _, dgamma, dbeta = reference.backward(error * a * z * (1 - z) / len(u), cache)
        a, c = a - rate * np.mean(error * z), c - rate * np.mean(error)
        if learn:
            gamma, beta = gamma - rate * dgamma, beta - rate * dbeta
    return UnitFit((target[:, None] + error)[:, 0], losses)


# Small networks, many at once


ACTIVATIONS = {"sigmoid": torch.sigmoid, "relu": torch.relu}


class Networks(nn.Module):
    """S fully connected networks of one architecture, side by side, each with weights of its own.

    Batch Normalization treats each feature by itself: to it, S layers of h units are one layer of S * h features. Side
    by side, many networks train in the time of a few. `place` is where the normalisation stands: "before" the
    nonlinearity (Section 3.2), "after" it, or "none". Weights are drawn from N(0, 0.1 squared), network by network.

    Shapes: (S, m, inputs) -> (S, m, classes).
    """

    def __init__(
        self, seeds: Sequence[int], inputs: int, hidden: Sequence[int], classes: int, activation: str, place: str
    ):
        super().__init__()
        self.activation, self.place = ACTIVATIONS[activation], place
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        widths = list(zip([inputs, *hidden], [*hidden, classes], strict=True))
        self.weights = nn.ParameterList(
            torch.stack([0.1 * torch.randn(below, units, generator=each) for each in generators])
            for below, units in widths
        )
        # in front of a normalisation they are cancelled and never move (Section 3.2); they serve the other places
        self.biases = nn.ParameterList(torch.zeros(len(seeds), 1, units) for _, units in widths)
        self.norms = nn.ModuleList(
            # momentum=None: a plain average over all batches, which is Algorithm 2
            BatchNorm(len(seeds) * units, momentum=None) if place != "none" else nn.Identity()
            for units in hidden
        )

    def forward(self, u: Tensor, tap: Callable[[Tensor, Tensor], None] = lambda before, after: None) -> Tensor:
        for weight, bias, norm in zip(self.weights, self.biases, self.norms, strict=False):
            x = torch.baddbmm(bias, u, weight)
            u = self.activation(_side_by_side(norm, x)) if self.place == "before" else self.activation(x)
            tap(x, u)  # what stood before the nonlinearity, unnormalised, and what came after it
            u = _side_by_side(norm, u) if self.place == "after" else u
        return torch.baddbmm(self.biases[-1], u, self.weights[-1])


def _side_by_side(norm: nn.Module, x: Tensor) -> Tensor:
    copies, m, units = x.shape
    return norm(x.transpose(0, 1).reshape(m, copies * units)).reshape(m, copies, units).transpose(0, 1)


class Rates(NamedTuple):
    """Learning rates of one network; 0 freezes what it belongs to."""

    weights: float  # of the hidden layers, with their biases
    gamma_beta: float
    output: float  # of the last layer

    @classmethod
    def equal(cls, rate: float) -> "Rates":
        """The same rate for all parameters."""
        return cls(rate, rate, rate)


class Course(NamedTuple):
    """What was seen during training. Shapes: (S, steps) both."""

    losses: np.ndarray  # of the mini-batch, before the step
    weight_norms: np.ndarray  # of the first hidden layer's weights, before the step


def train(
    networks: Networks,
    images: Tensor,
    labels: Tensor,
    batches: Iterator[np.ndarray],
    rates: Sequence[Rates],
    steps: int,
) -> Course:
    """Plain stochastic gradient descent of all networks in place, each on mini-batches and with rates of its own.

    Shapes: images (n, inputs), labels (n,); `batches` yields indices (S, m); `rates` has one entry for each network.
    """
    networks.train()
    pace = _pace(networks, rates)
    losses, norms = [], []
    for _ in range(steps):
        indices = torch.from_numpy(next(batches))
        logits = networks(images[indices])
        each = cross_entropy(logits.flatten(0, 1), labels[indices].flatten(), reduction="none")
        each = each.view(len(rates), -1).mean(1)
        losses.append(each.detach())
        norms.append(networks.weights[0].detach().flatten(1).norm(dim=1))
        # of the sum: a network's loss does not depend on the others' parameters
        gradients = torch.autograd.grad(each.sum(), list(pace))
        with torch.no_grad():
            for (parameter, rate), gradient in zip(pace.items(), gradients, strict=True):
                parameter -= rate * gradient
    return Course(torch.stack(losses, 1).numpy(), torch.stack(norms, 1).numpy())


def _pace(networks: Networks, rates: Sequence[Rates]) -> dict[Tensor, Tensor]:
    """The learning rate of each parameter, network by network, in a shape that multiplies its gradient."""
    of_weights, of_gamma_beta, of_output = torch.tensor(rates).T
    pace = {}
    for name, parameter in networks.named_parameters():
        kind, index, *_ = name.split(".")
        last = int(index) == len(networks.norms)
        rate = of_gamma_beta if kind == "norms" else of_output if last else of_weights
        rate = rate.repeat_interleave(len(parameter) // len(rates))  # h features per network in a normalisation
        pace[parameter] = rate.reshape(-1, *[1] * (parameter.ndim - 1))
    return pace


class Outcome(NamedTuple):
    """Networks trained at several settings, with several seeds each."""

    networks: Networks  # S = settings * seeds of them, setting by setting
    losses: np.ndarray  # (settings, seeds, steps)
    weight_norms: np.ndarray  # (settings, seeds, steps)
    accuracies: np.ndarray  # (settings, seeds), on the test set, with population statistics

    @property
    def final_losses(self) -> np.ndarray:
        """Mean of the training loss over the last sixth of the steps, NaN where training failed. (settings, seeds)."""
        return self.losses[..., -max(1, self.losses.shape[-1] // 6) :].mean(axis=-1)


class Digits(NamedTuple):
    """The digits as torch takes them: pixels from 0 to 1 in rows (n, 64), labels (n,)."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_digits() -> Digits:
    """scikit-learn's digits, always there."""
    found = datasets.load("digits")
    pixels = (torch.tensor(each).flatten(1).float() / found.white for each in (found.train_images, found.test_images))
    images, test_images = pixels
    return Digits(images, torch.tensor(found.train_labels), test_images, torch.tensor(found.test_labels))


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch: with networks this small more would only wait for each other, and results could differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def compare(
    digits: Digits,
    activation: str,
    place: str,
    settings: Sequence[Rates],
    seeds: int,
    steps: int,
    batches: Iterator[np.ndarray] | None = None,
    batch_size: int = 60,
) -> Outcome:
    """Train 64-64-64-10 networks on the digits, `seeds` of them at each of `settings`, and test them.

    A seed means the same initial weights, and the same mini-batches unless `batches` are given, at every setting.
    """
    columns = [seed for _ in settings for seed in range(seeds)]
    networks = Networks(columns, 64, (64, 64), 10, activation, place)
    batches = batches or shuffled(len(digits.labels), batch_size, columns)
    rates = [each for each in settings for _ in range(seeds)]
    course = train(networks, digits.images, digits.labels, batches, rates, steps)
    collect_population(networks, digits.images, batches, count=25)
    found = accuracy(networks, digits.test_images, digits.test_labels)
    shape = (len(settings), seeds)
    return Outcome(
        networks, course.losses.reshape(*shape, -1), course.weight_norms.reshape(*shape, -1), found.reshape(shape)
    )


def shuffled(n: int, batch_size: int, seeds: Sequence[int]) -> Iterator[np.ndarray]:
    """Mini-batches in random order, for each network its own. Yields indices (S, batch_size)."""
    streams = [datasets.batches(n, batch_size, seed) for seed in seeds]
    while True:
        yield np.stack([next(stream) for stream in streams])


def of_few_classes(
    labels: np.ndarray, batch_size: int, classes: Sequence[int], seeds: Sequence[int]
) -> Iterator[np.ndarray]:
    """Mini-batches with examples of ``classes[s]`` random classes only, equally many of each, for network s.

    `batch_size` must be a multiple of each number of classes. Yields indices (S, batch_size).
    """
    members = [np.flatnonzero(labels == label) for label in range(10)]
    generators = [np.random.default_rng(seed) for seed in seeds]

    def one(count: int, rng: np.random.Generator) -> np.ndarray:
        chosen = rng.choice(10, count, replace=False)
        return np.concatenate([rng.choice(members[label], batch_size // count) for label in chosen])

    while True:
        yield np.stack([one(count, rng) for count, rng in zip(classes, generators, strict=True)])


@torch.no_grad()
def collect_population(networks: Networks, images: Tensor, batches: Iterator[np.ndarray], count: int) -> None:
    """Algorithm 2, lines 8 to 10: with all weights fixed, average the statistics of `count` training mini-batches."""
    for norm in networks.norms:
        if isinstance(norm, BatchNorm):
            norm.reset_running_stats()
    networks.train()
    for _ in range(count):
        networks(images[torch.from_numpy(next(batches))])


@torch.no_grad()
def accuracy(networks: Networks, images: Tensor, labels: Tensor) -> np.ndarray:
    """Share of right answers of each network with population statistics, as ``collect_population`` left them. (S,)."""
    networks.eval()
    answers = networks(images.expand(len(networks.weights[0]), *images.shape)).argmax(2)
    return (answers == labels).double().mean(1).numpy()


@torch.no_grad()
def accuracy_in_batches(
    networks: Networks, images: Tensor, labels: Tensor, batches: Iterator[np.ndarray], count: int
) -> np.ndarray:
    """Share of right answers in `count` mini-batches, each normalised by its own statistics. (S,)."""
    networks.train()
    right = []
    for _ in range(count):
        indices = torch.from_numpy(next(batches))
        right.append((networks(images[indices]).argmax(2) == labels[indices]).double().mean(1))
    return torch.stack(right).mean(0).numpy()


def placements(
    digits: Digits, rates: Sequence[float], seeds: int, steps: int, batch_size: int
) -> dict[str, dict[str, Outcome]]:
    """Networks normalised "before" and "after" the nonlinearity, all else equal: outcome by activation and place."""
    settings = [Rates.equal(rate) for rate in rates]
    return {
        activation: {
            place: compare(digits, activation, place, settings, seeds, steps, batch_size=batch_size)
            for place in ("before", "after")
        }
        for activation in ACTIVATIONS
    }


def learn_from_few_classes(
    digits: Digits, place: str, classes: Sequence[int], seeds: int, steps: int, batch_size: int
) -> np.ndarray:
    """Test accuracy of ReLU networks trained on mini-batches of `classes` classes each. Shape (seeds, classes)."""
    columns = [(count, seed) for count in classes for seed in range(seeds)]
    batches = of_few_classes(digits.labels.numpy(), batch_size, *zip(*columns, strict=True))
    settings = [Rates.equal(0.1)] * len(classes)
    return compare(digits, "relu", place, settings, seeds, steps, batches).accuracies.T


@one_thread()
def answer_among_few_classes(digits: Digits, healthy: Outcome, classes: Sequence[int], count: int = 30) -> np.ndarray:
    """Accuracy of trained networks in test batches of 20 from few classes, normalised by the batch's own statistics.

    Of the networks at the first setting of `healthy`. Shape (seeds, classes).
    """
    settings, seeds = healthy.accuracies.shape
    found = []
    for each in classes:
        batches = of_few_classes(digits.test_labels.numpy(), 20, [each] * settings * seeds, range(settings * seeds))
        found.append(accuracy_in_batches(healthy.networks, digits.test_images, digits.test_labels, batches, count))
    return np.array(found).T[:seeds]


@one_thread()
@torch.no_grad()
def around_the_nonlinearity(networks: Networks, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Values of the second hidden layer before (Wu, not normalised) and after its nonlinearity, each unit standardised.

    Units that never vary, such as dead ones, are left out. Shapes: (values,) both.
    """
    seen = []
    networks.train()  # normalised by this batch, as in training
    networks(images.expand(len(networks.weights[0]), *images.shape), tap=lambda *pair: seen.append(pair))
    return tuple(_standardised_units(each) for each in seen[1])


def _standardised_units(x: Tensor) -> np.ndarray:
    values = x.transpose(0, 1).flatten(1).double().numpy()  # (n, S * units)
    values = values[:, values.std(axis=0) > 1e-6]
    return ((values - values.mean(axis=0)) / values.std(axis=0)).ravel()


# Scale


def layer_and_gradients(
    weight: np.ndarray, u: np.ndarray, upstream: np.ndarray, eps: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """BN(Wu) for one mini-batch, and the gradients for u and W of the loss whose gradient for the output is `upstream`.

    Shapes: weight (inputs, d), u (m, inputs), upstream (m, d) -> (m, d), (m, inputs), (inputs, d).
    """
    d = weight.shape[1]
    y, cache = reference.forward(u @ weight, np.ones(d), np.zeros(d), eps)
    dx, _, _ = reference.backward(upstream, cache)
    return y, dx @ weight.T, u.T @ dx


def scaled(factors: np.ndarray, x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviation of BN(a x) for each factor a, measured and by the formula; x (m, 1). Shapes: (factors,)."""
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
    """A mutant: the variance as E[x^2] - E[x]^2, a small difference of large numbers where the mean is large. (d,)."""
    return (x * x).mean(axis=0) - x.mean(axis=0) ** 2


def output_spreads(spreads: np.ndarray, eps: float = 1e-5) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Standard deviation of the output for a batch of four values of a given spread: Algorithm 1, then each mutant.

    Without the one-pass variance, which is right for centred values. Shapes: (spreads,) each.
    """
    four = np.array([[-1.5], [-0.5], [0.5], [1.5]]) / np.sqrt(1.25)  # mean 0, variance 1
    ways = {name: mutant for name, mutant in MUTANTS.items() if mutant is not MUTANTS["E[x²] − E[x]²"]}
    right = np.array([normalised(s * four, eps).std() for s in spreads])
    return right, {name: np.array([way(s * four, eps).std() for s in spreads]) for name, way in ways.items()}


def one_pass_damage(mean: float, deviation: float, m: int, features: int, rng: np.random.Generator) -> tuple:
    """What ``one_pass_variance`` does in float32: shares of negative variances and of NaN, and the median error.

    Returns three shares: of features with a negative variance, of features that normalise to NaN with eps = 1e-5, and
    the median distance of variance found / true variance of the batch from 1.
    """
    x = (mean + deviation * rng.normal(size=(m, features))).astype(np.float32)
    found, true = one_pass_variance(x), x.astype(np.float64).var(axis=0)
    return float(np.mean(found < 0)), float(np.mean(found + 1e-5 < 0)), float(np.median(np.abs(found / true - 1)))
