"""Chapter 1: how the gradient's size changes from layer to layer, measured and by theory.

All sizes are *squared* norms of the gradient with respect to a layer's output. These multiply from
layer to layer: one number per layer, the growth. The first layer is left out throughout: its input
is raw data and not an activation, so that its own factor differs, once, from that of all others.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from bnkit.networks import digits, many_numpy
from bnkit.networks.digits import Digits

Array = np.ndarray
# Standard deviation of the initial weights, from the number of inputs and of outputs of a layer.
INITS = {
    "small": lambda fan_in, fan_out: 0.01,
    "Xavier": lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5,  # Bengio and Glorot 2010
    "He": lambda fan_in, fan_out: (2 / fan_in) ** 0.5,  # He et al. 2015
    # what torch.nn.Linear draws, if not told otherwise
    "framework": lambda fan_in, fan_out: (1 / (3 * fan_in)) ** 0.5,
}
# Starved unequally, and alike
EXAMPLES = {"sigmoid, Xavier": ("sigmoid", "Xavier"), "ReLU, small": ("relu", "small")}
# A unit is saturated for an example when its slope is below this share of the largest slope
SATURATED = 0.1


class Backprop(NamedTuple):
    """One backward pass through untrained networks."""

    sizes: Array
    """Of the gradient for the output of layer 1, ..., depth: its squared norm, (seeds, depth)."""
    weights: Array
    """Of the gradient for the weights of layer 1, ..., depth: its squared norm, (seeds, depth)."""
    saturated: Array
    """Share of saturated units and examples in all layers but the first, (seeds,)."""


def deviation(init: str | float):
    """Standard deviation of the weights: a name of INITS, or a gain a for a / sqrt(fan_in)."""
    return INITS[init] if isinstance(init, str) else digits.deviation(init)


def backpropagate(
    activation: str, init: str | float, *, depth: int, width: int = 100, batch: int = 128,
    seeds: int = 5, norm: bool = False, keep: float = 1.0, offset: float = 0.0,
    loss: str = "random",
) -> Backprop:  # fmt: skip
    """Send a gradient through `depth` untrained layers, from the last to the first.

    Inputs are Gaussian. The gradient that enters at the top is Gaussian as well (`loss` "random"),
    or it is that of the sum of all outputs ("sum") or of their squares ("squares"). Each unit's
    output is kept with probability `keep` (Dropout), and each bias is plus or minus `offset`.
    """
    form = (width, width, depth, None, activation, norm, deviation(init))
    networks = many_numpy.build(*form, range(seeds))
    generator = np.random.default_rng([depth, width, batch, seeds])
    x = generator.standard_normal((seeds, batch, width))
    for layer in networks.layers:
        name = "beta" if norm else "bias"
        layer[name] = offset * generator.choice([-1.0, 1.0], layer[name].shape)
    masks = dropout(generator, keep) if keep < 1 else None
    outputs, tape = many_numpy.forward(networks, x, dropout=masks)
    upstream = {
        "random": generator.standard_normal(outputs.shape),
        "sum": np.ones_like(outputs),
        "squares": 2 * outputs,
    }[loss]
    gradients, d_inputs = many_numpy.backward(networks, tape, upstream)
    d_outputs = [*d_inputs[1:], upstream]  # a layer's input is the output of the one below
    d_weights = [layer["weight"] for layer in gradients]
    slope = many_numpy.ACTIVATIONS[activation].slope
    low = np.stack([slope(passed.y) < SATURATED * slope(np.zeros(1)) for passed in tape[1:]])
    return Backprop(squares(d_outputs), squares(d_weights), low.mean((0, 2, 3)))


def squares(of_layers: Sequence[Array]) -> Array:
    """Squared norms of a list of gradients (R, ., .), one for each layer: (R, layers)."""
    return np.stack([(d**2).sum((1, 2)) for d in of_layers], axis=1)


def growth(sizes: Array) -> Array:
    """Factor by which squared norms grow per layer, downwards: (seeds, depth) -> (seeds,)."""
    return (sizes[:, 0] / sizes[:, -1]) ** (1 / (sizes.shape[1] - 1))


def measure(activation: str, init: str | float, **options) -> Array:
    """``growth`` of what ``backpropagate`` finds, (seeds,)."""
    return growth(backpropagate(activation, init, **options).sizes)


def saturate(activation: str, settings: Sequence[dict], **options) -> tuple[Array, Array]:
    """Saturated share and growth per layer for settings of ``backpropagate``: (n, seeds) each."""
    passes = [backpropagate(activation, **setting, **options) for setting in settings]
    growths = [growth(passed.sizes) for passed in passes]
    return np.array([passed.saturated for passed in passes]), np.array(growths)


def first_to_last(passed: Backprop) -> float:
    """Norm of the weight gradient of layer 1 over that of the last layer, mean over seeds."""
    return float(np.sqrt(passed.weights[:, 0] / passed.weights[:, -1]).mean())


def off(measured: Array, expected: float) -> float:
    """How far a measured growth's mean is from the expected: their ratio's logarithm, its size."""
    return abs(float(np.log(np.mean(measured) / expected)))


def dropout(generator: np.random.Generator, keep: float | Array) -> many_numpy.Disturbance:
    """Dropout as in training: an output is kept with probability `keep` and then divided by it.

    `keep` is one number or one for each network, where 1 keeps all.
    """
    share = np.reshape(np.float32(keep), (-1, 1, 1))
    return lambda layer, shape: ((generator.random(shape, np.float32) < share) / share, 0.0)


# Theory: integrals over a Gaussian, for layers of infinite width

# no node at 0, where a ReLU has no slope; beyond 10 a Gaussian weighs 1e-23
_Z = np.linspace(-10, 10, 4_000)
_WEIGHT = np.exp(-(_Z**2) / 2) / np.exp(-(_Z**2) / 2).sum()


def expected(values: Array) -> float:
    """Mean of a function of z ~ N(0, 1), given its values at the nodes of the quadrature."""
    return float(_WEIGHT @ values)


def mean_field(
    activation: str, init: str | float, *, depth: int, width: int = 100, keep: float = 1.0,
    offset: float = 0.0,
) -> float:  # fmt: skip
    """Growth per layer without BN in the limit of infinite width, for ``backpropagate``'s inputs.

    A pre-activation has mean plus or minus `offset` and variance q. With weights of variance s /
    fan_in the next q is s E[g(z)²], and the squared gradient is multiplied by s E[g'(z)²]
    (Schoenholz et al. 2017). Dropout divides both by `keep`.
    """
    g = many_numpy.ACTIVATIONS[activation]
    s = width * deviation(init)(width, width) ** 2
    q, log_growth = s, 0.0  # the input of the first layer has variance 1
    for _ in range(depth - 1):
        # g is odd, or odd around 1/2, for those that get an offset: -offset has the same slopes,
        # and both signs of g
        values = [g.value(np.sqrt(q) * _Z + shift) for shift in (offset, -offset)]
        q = s / keep * np.mean([expected(value**2) for value in values])
        log_growth += np.log(s / keep * expected(g.slope(np.sqrt(q) * _Z + offset) ** 2))
    return float(np.exp(log_growth / (depth - 1)))


def with_bn(activation: str) -> float:
    """Growth per layer with BN, wide layers and large batches: E[g'(z)²] / Var[g(z)], z ~ N(0, 1).

    Weights of variance s / fan_in turn the variance of the layer below, Var[g], into s Var[g], by
    which BN divides. The squared gradient is multiplied by s E[g'²] and divided by the same: s
    cancels. For ReLU: π / (π − 1) (Yang et al. 2019). By the Gaussian Poincaré inequality, at least
    1.
    """
    g = many_numpy.ACTIVATIONS[activation]
    return expected(g.slope(_Z) ** 2) / (expected(g.value(_Z) ** 2) - expected(g.value(_Z)) ** 2)


def linear_with_bn(batch: int) -> float:
    """Growth per layer of a linear network with BN for a mini-batch's size (Yang et al. 2019)."""
    return (batch - 2) / (batch - 3)


def sampling_error(width: int, depth: int, seeds: int) -> float:
    """Four standard deviations of the logarithm of a measured growth: what chance alone may do.

    A random layer of n units multiplies a squared norm by its mean factor times 1 ± sqrt(5 / n),
    roughly (for a ReLU; others vary less); the logarithm is averaged over layers and seeds.
    """
    return 4 * (5 / (width * (depth - 1) * seeds)) ** 0.5


# What training makes of it


class Variant(NamedTuple):
    """A kind of network and how it is trained."""

    name: str
    activation: str
    init: str
    norm: bool = False
    decay: float = 0.0  # weight decay
    keep: float = 1.0  # share of outputs that Dropout keeps


VARIANTS = (
    Variant("sigmoid", "sigmoid", "Xavier"),
    Variant("sigmoid, Dropout", "sigmoid", "Xavier", keep=0.8),
    Variant("sigmoid, weight decay", "sigmoid", "Xavier", decay=1e-3),
    Variant("ReLU, He", "relu", "He"),
    Variant("sigmoid, BN", "sigmoid", "Xavier", norm=True),
    Variant("ReLU, BN", "relu", "He", norm=True),
)


PLAIN = next(variant for variant in VARIANTS if variant.name == "ReLU, He")
# Networks that learn a hundred digits by heart, and two remedies for that
OVERFITTED = (
    Variant("neither", "relu", "He"),
    Variant("Dropout", "relu", "He", keep=0.8),
    Variant("weight decay", "relu", "He", decay=0.03),
)


class Trained(NamedTuple):
    """Networks after a short training on digits, at the best learning rate for each depth."""

    accuracy: Array
    """Test accuracy, (depths, seeds)."""
    seen: Array
    """Accuracy on the training images, without Dropout, (depths, seeds)."""
    rate: Array
    """The learning rate with the best mean accuracy on training images, (depths,)."""
    weight_left: Array
    """Norm of layer 1's weights over that before training, mean over seeds, (depths,)."""


def train(variants: Sequence[Variant], depths: Sequence[int], **options) -> dict[str, Trained]:
    """Train each kind of network at each depth; `options` are those of ``train_alike``.

    Kinds of one architecture learn side by side, with every learning rate and seed.
    """
    trained = {}
    for _, group in groupby(variants, key=lambda kind: (kind.activation, kind.init, kind.norm)):
        alike = list(group)
        rows = [train_alike(alike, depth, **options) for depth in depths]
        for variant, at_depths in zip(alike, zip(*rows, strict=True), strict=True):
            trained[variant.name] = Trained(*map(np.array, zip(*at_depths, strict=True)))
    return {variant.name: trained[variant.name] for variant in variants}


def train_alike(
    alike: Sequence[Variant], depth: int, *, steps: int, seeds: int, width: int = 40,
    batch: int = 64, rates: Sequence[float] = (0.03, 0.1, 1.0), examples: int = 1500,
) -> list[tuple]:  # fmt: skip
    """The fields of ``Trained`` for several kinds of one architecture, on the first `examples`."""
    data, first = Digits.load(), alike[0]
    x, labels = data.x[:examples], data.labels[:examples]
    grids = np.meshgrid(range(len(alike)), rates, range(seeds), indexing="ij")
    kind, rate, seed = (grid.ravel() for grid in grids)
    form = (x.shape[1], width, depth, 10, first.activation, first.norm, INITS[first.init])
    networks = many_numpy.build(*form, seed, dtype=np.float32)
    lowest = networks.layers[0]["weight"]
    before = np.linalg.norm(lowest, axis=(1, 2))
    keep, decay = (np.array([getattr(v, name) for v in alike])[kind] for name in ("keep", "decay"))
    masks = dropout(np.random.default_rng(depth), keep) if (keep < 1).any() else None
    for _ in many_numpy.train(networks, x, labels, rate, steps, batch, decay=decay, dropout=masks):
        pass
    populations = many_numpy.observe(networks, x[:500]) if first.norm else None
    seen = many_numpy.accuracy(networks, x[:500], labels[:500], populations)
    test = many_numpy.accuracy(networks, data.x_test, data.test_labels, populations)
    left = np.linalg.norm(lowest, axis=(1, 2)) / before
    # 0 for a network that diverged: its rate shall not be the best
    test, seen, left = (np.nan_to_num(v).reshape(grids[0].shape) for v in (test, seen, left))
    best = seen.mean(2).argmax(1)
    return [(test[k, b], seen[k, b], rates[b], left[k, b].mean()) for k, b in enumerate(best)]


class Settling(NamedTuple):
    """Networks with BN in the first steps of their training on digits."""

    sizes: Array
    """Of the gradient for each hidden layer's output: its squared norm, (looks, seeds, depth)."""
    weight: Array
    """Norm of all hidden weights over what it was before training, (looks, seeds)."""


def settle(
    activation: str, init: str, *, depth: int, width: int, seeds: int, rate: float,
    steps: Sequence[int], batch: int = 128,
) -> Settling:  # fmt: skip
    """Train networks with BN; look at their gradients after each of `steps` steps, ascending."""
    data = Digits.load(dtype=np.float64)
    form = (data.x.shape[1], width, depth, len(data.data.classes), activation, True, INITS[init])
    networks = many_numpy.build(*form, range(seeds))
    sizes, weights = [], []
    for step, chosen in many_numpy.train(networks, data.x, data.labels, rate, steps[-1], batch):
        if step in steps:
            outputs, tape = many_numpy.forward(networks, data.x[chosen])
            _, d_outputs = many_numpy.cross_entropy(outputs, data.labels[chosen])
            sizes.append(squares(many_numpy.backward(networks, tape, d_outputs)[1][1:]))
            hidden = [layer["weight"] for layer in networks.layers[:depth]]
            weights.append(np.sqrt(sum((weight**2).sum((1, 2)) for weight in hidden)))
    return Settling(np.array(sizes), np.array(weights) / weights[0])
