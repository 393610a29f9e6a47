"""Many small fully connected networks at once, in NumPy, with gradients written out.

The theory chapters compare dozens of small networks: seeds, initial weights, learning rates.
Networks that see the same mini-batches cost far less as one product of (R, m, d) arrays than one
after another, and the comparison is paired.

Letters: R networks, m examples, d units. Names follow the paper: a hidden layer with input u
computes x = Wu + b and g(x), or x = Wu, y = BN(x) and g(y) (Section 3.2), or, normalised after the
nonlinearity, BN(g(x)); where the networks have classes, a linear layer ends them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from bnkit import datasets, reference
from bnkit.networks import parts
from bnkit.networks.parts import Part
from bnkit.page import progress

Array = np.ndarray
# weight (R, inputs, units); bias, or gamma and beta, or all three, (R, units)
Layer = dict[str, Array]
Disturbance = Callable[[int, tuple[int, int, int]], tuple[Array | float, Array | float]]


class Activation(NamedTuple):
    """A nonlinearity g and its derivative, as a function of its value: g'(y) = derivative(g(y))."""

    value: Callable[[Array], Array]
    derivative: Callable[[Array], Array]

    def slope(self, y: Array) -> Array:
        """g'(y)."""
        return self.derivative(self.value(y))


def _sigmoid(y: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(0.5 * y)  # 1 / (1 + exp(-y)) would overflow for large negative y


ACTIVATIONS = {
    "linear": Activation(lambda y: y, np.ones_like),
    "sigmoid": Activation(_sigmoid, lambda g: g * (1 - g)),
    "tanh": Activation(np.tanh, lambda g: 1 - g * g),
    "relu": Activation(lambda y: np.maximum(y, 0), lambda g: (g > 0).astype(g.dtype)),
}


PAIR = ("gamma", "beta")
PLACES = ("before", "after")  # of the nonlinearity: where a normalisation stands
# A layer whose weights are longer has diverged; what follows can still square it in float32
LIMIT = 1e8


@dataclass(frozen=True)
class Stack:
    """R networks of one architecture; ``descend`` and ``train`` change its arrays in place."""

    layers: list[Layer]  # hidden layers, then the linear output layer if the networks have classes
    activation: str  # a name in ACTIVATIONS
    depth: int  # number of hidden layers
    diverged: Array  # (R,) bool: taken out of training, its parameters set to 0
    eps: float = 1e-5  # of the normalisation
    place: str = "before"  # one of PLACES
    # which parts of the normalisation each network has, of ``parts.switches``; None: all of it
    parts: tuple[Array, Array, Array] | None = None


class Pass(NamedTuple):
    """What one layer keeps of a forward pass. Shapes: u (R, m, inputs), x and y (R, m, units)."""

    u: Array  # its input
    x: Array  # Wu, or Wu + b
    y: Array  # BN(x), or x: the input of the nonlinearity
    g: Array  # g(y); y itself in the output layer
    cache: object  # of the normalisation; None without it
    scale_y: Array | None  # by which a disturbance multiplied y, if any
    scale_g: Array | None  # by which dropout multiplied g(y), if any


def build(
    inputs: int, width: int, depth: int, classes: int | None, activation: str, norm: bool,
    deviation: Callable[[int, int], float | Array], seeds: Sequence[int], *, eps: float = 1e-5,
    place: str = "before", dtype: type = np.float64, of_norm: Sequence[Part] | None = None,
) -> Stack:  # fmt: skip
    """Untrained networks, one for each of `seeds`; without `classes` they end in a hidden layer.

    Weights of layer (fan_in, fan_out) are drawn from N(0, deviation(fan_in, fan_out) squared); the
    deviation is one number or one for each network. Networks with equal seeds start from equal
    weights, up to their deviation, with and without `norm`, which stands at a `place` of PLACES.
    Biases and beta start at 0, gamma at 1. `of_norm` gives each network parts of a normalisation.
    """
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"there is no activation {activation!r}; there are: {known}")
    if place not in PLACES:
        known = ", ".join(PLACES)
        raise ValueError(f"there is no place {place!r} for a normalisation; there are: {known}")
    generators = [np.random.default_rng(seed) for seed in seeds]
    widths = [inputs, *[width] * depth, *([classes] if classes else [])]
    layers = []
    for index, shape in enumerate(pairwise(widths)):
        # (R, fan_in, fan_out)
        drawn = np.stack([generator.standard_normal(shape) for generator in generators])
        sigma = np.broadcast_to(deviation(*shape), len(generators))[:, None, None]
        layer = {"weight": (sigma * drawn).astype(dtype)}
        zeros = np.zeros((len(generators), shape[1]), dtype)
        normalised = norm and index < depth
        # in front of a normalisation beta takes the bias's place (Section 3.2)
        if not normalised or place == "after":
            layer["bias"] = zeros
        if normalised:
            layer |= {"gamma": zeros + 1, "beta": zeros.copy()}
        layers.append(layer)
    on = parts.switches(of_norm, dtype) if of_norm else None
    return Stack(layers, activation, depth, np.zeros(len(generators), bool), eps, place, on)


def forward(
    stack: Stack, u: Array, *, populations: list | None = None, noise: Disturbance | None = None,
    dropout: Disturbance | None = None,
) -> tuple[Array, list[Pass]]:  # fmt: skip
    """Outputs of all networks for one mini-batch, and what ``backward`` needs.

    With `populations` (of ``observe``) the normalisation is that of inference, Algorithm 2;
    without, that of training. ``noise(layer, shape)`` gives a scale and a shift for each y,
    ``dropout(layer, shape)`` a scale for each output of a hidden layer.

    Shapes: u (m, inputs), shared, or (R, m, inputs) -> outputs (R, m, classes), or (R, m, width).
    """
    g = ACTIVATIONS[stack.activation]
    tape = []
    for index, layer in enumerate(stack.layers):
        hidden = index < stack.depth
        population = populations[index] if populations else None
        x = u @ layer["weight"]  # (R, m, units)
        cache = None
        if "bias" in layer:
            x = y = x + layer["bias"][:, None, :]
        else:
            y, cache = _normalise(x, layer, stack, population)
        scale_y = scale_g = None
        if noise and hidden:
            scale_y, shift_y = noise(index, y.shape)
            y = y * scale_y + shift_y
        value = g.value(y) if hidden else y
        if dropout and hidden:
            scale_g, _ = dropout(index, y.shape)
        above = value
        if _after(stack, layer):
            above, cache = _normalise(value, layer, stack, population)
        tape.append(Pass(u, x, y, value, cache, scale_y, scale_g))
        u = _scaled(above, scale_g)
    return u, tape


def backward(stack: Stack, tape: list[Pass], d_outputs: Array) -> tuple[list[Layer], list[Array]]:
    """Gradients of every parameter, in the order of ``stack.layers``, and of every layer's input.

    Shapes: d_outputs as the outputs of ``forward``; the second list has (R, m, inputs of the layer)
    arrays, the first of them the gradient of the networks' input.
    """
    derivative = ACTIVATIONS[stack.activation].derivative
    gradients, d_inputs, d = [], [], d_outputs
    for index in reversed(range(len(stack.layers))):
        layer, passed, gradient = stack.layers[index], tape[index], {}
        d = _scaled(d, passed.scale_g)
        if _after(stack, layer):
            d, gradient = _back(d, passed.cache)
        if index < stack.depth:
            d = _scaled(d * derivative(passed.g), passed.scale_y)
        if "bias" in layer:
            gradient["bias"] = d.sum(1)
        else:
            d, gradient = _back(d, passed.cache)
        gradient["weight"] = np.swapaxes(passed.u, -1, -2) @ d  # (R, inputs, units)
        d = d @ np.swapaxes(layer["weight"], 1, 2)
        gradients.append(gradient)
        d_inputs.append(d)
    return gradients[::-1], d_inputs[::-1]


def observe(stack: Stack, u: Array, populations: list | None = None) -> list:
    """Population statistics of each layer, as Algorithm 2 takes them; None for a plain layer.

    From one large batch, or, given the `populations` of the batches before, from all of them.
    """
    _, tape = forward(stack, u)
    layers, populations = stack.layers, populations or [None] * len(tape)
    seen = [p.g if _after(stack, layer) else p.x for layer, p in zip(layers, tape, strict=True)]
    return [
        reference.observe(population, columns(x)) if "gamma" in layer else None
        for layer, x, population in zip(layers, seen, populations, strict=True)
    ]


def cross_entropy(outputs: Array, labels: Array) -> tuple[Array, Array]:
    """Mean cross-entropy in nats, of each network or of one, and its gradient for the outputs.

    Shapes: outputs (R, m, c), labels (m,), or (R, m) where each network has its own -> (R,), (R, m,
    c); of one network (m, c), (m,) -> (), (m, c).
    """
    shifted = outputs - outputs.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    right = np.broadcast_to(labels, outputs.shape[:-1])[..., None]  # (R, m, 1)
    d = np.exp(log_p)
    np.put_along_axis(d, right, np.take_along_axis(d, right, -1) - 1, -1)
    return -np.take_along_axis(log_p, right, -1)[..., 0].mean(-1), d / outputs.shape[-2]


def accuracy(stack: Stack, u: Array, labels: Array, populations: list | None = None) -> Array:
    """Share of the examples that each network names correctly, (R,); NaN for a diverged one."""
    # a network about to diverge is wrong, and no reason to warn
    with np.errstate(over="ignore", invalid="ignore"):
        outputs, _ = forward(stack, u, populations=populations)
    return np.where(stack.diverged, np.nan, (outputs.argmax(-1) == labels).mean(1))


def train(
    stack: Stack, u: Array, labels: Array, rates: float | Array, steps: int, batch_size: int, *,
    seed: int = 0, decay: float | Array = 0.0, noise: Disturbance | None = None,
    dropout: Disturbance | None = None,
) -> Iterator[tuple[int, Array]]:  # fmt: skip
    """Train in place by plain gradient descent; yield (step, batch) before a step and at the end.

    `rates` is the learning rate, one or one for each network, and so is `decay`, which times the
    weight is added to the weight's gradient; all networks see the same mini-batches. What is
    watched is up to the caller, between two steps.
    """
    order = datasets.batches(len(u), batch_size, seed)
    for step in progress.steps(steps):
        batch = next(order)
        yield step, batch
        # Too high a rate ends in infinity and NaN, an answer as well: ``descend`` takes note of it
        with np.errstate(over="ignore", invalid="ignore"):
            outputs, tape = forward(stack, u[batch], noise=noise, dropout=dropout)
            _, d_outputs = cross_entropy(outputs, labels[batch])
            gradients, _ = backward(stack, tape, d_outputs)
            descend(stack, gradients, rates, decay=decay)
    yield steps, next(order)


def descend(
    stack: Stack, gradients: list[Layer], rates: float | Array, *, decay: float | Array = 0.0,
    layers: slice = slice(None),
) -> None:  # fmt: skip
    """One step of gradient descent, in place, of `layers`; diverged networks are taken out."""
    rates, decay = (np.broadcast_to(v, len(stack.diverged)) for v in (rates, decay))
    for layer, gradient in list(zip(stack.layers, gradients, strict=True))[layers]:
        for name, value in layer.items():
            step = gradient[name]
            if name == "weight" and decay.any():
                step = step + per_network(decay, value) * value
            value -= per_network(rates, value) * step
            flat = value.reshape(len(value), -1)
            # written so that NaN, for which every comparison is false, counts as diverged
            stack.diverged[:] |= ~(np.einsum("ri,ri->r", flat, flat) < LIMIT**2)
    if stack.diverged.any():
        for layer in stack.layers:
            for value in layer.values():
                value[stack.diverged] = 0


def inputs(images: Array, data: datasets.Dataset) -> Array:
    """Images less the mean of `data`'s training images, over the one standard deviation of these.

    Shapes: (n, h, w) -> (n, h * w) float32.
    """
    seen = data.train_images.reshape(len(data.train_images), -1).astype(np.float64)
    return ((images.reshape(len(images), -1) - seen.mean(0)) / seen.std()).astype(np.float32)


def copy(stack: Stack) -> Stack:
    """An independent copy."""
    layers = [{name: value.copy() for name, value in layer.items()} for layer in stack.layers]
    return replace(stack, layers=layers, diverged=stack.diverged.copy())


def pick(stack: Stack, index: Array) -> Stack:
    """The networks at `index`, numbers or a mask (R,), as an independent stack."""
    layers = [{name: value[index] for name, value in layer.items()} for layer in stack.layers]
    on = stack.parts and tuple(switch[index] for switch in stack.parts)
    return replace(stack, layers=layers, diverged=stack.diverged[index], parts=on)


def _normalise(x: Array, layer: Layer, stack: Stack, population) -> tuple[Array, object]:
    """BN of every unit of every network: R networks of d units are R * d features."""
    eps, pair = stack.eps, [layer[name] for name in PAIR]
    if stack.parts is not None:
        moments = population and [v.reshape(pair[0].shape) for v in population[:2]]
        return parts.forward(x, *pair, stack.parts, eps, moments)
    gamma, beta = (v.ravel() for v in pair)
    if population is None:
        y, cache = reference.forward(columns(x), gamma, beta, eps)
    else:
        y, cache = reference.infer(columns(x), gamma, beta, population, eps), None
    return _networks(y, len(x)), cache


def _back(d: Array, cache: object) -> tuple[Array, Layer]:
    """Gradients before a normalisation, from (R, m, d) behind it, and for gamma and beta."""
    if isinstance(cache, parts.Cache):
        dx, *of_pair = parts.backward(d, cache)
        return dx, dict(zip(PAIR, of_pair, strict=True))
    flat, *of_pair = reference.backward(columns(d), cache)
    gradient = {name: v.reshape(len(d), -1) for name, v in zip(PAIR, of_pair, strict=True)}
    return _networks(flat, len(d)), gradient


def _scaled(values: Array, scale: Array | None) -> Array:
    return values if scale is None else values * scale


def _after(stack: Stack, layer: Layer) -> bool:
    return stack.place == "after" and "gamma" in layer


def per_network(numbers: Array, like: Array) -> Array:
    """(R,) -> (R, 1, ...), with the dtype and the axes of `like`."""
    return numbers.astype(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def columns(values: Array) -> Array:
    """(R, m, d) -> (m, R * d)."""
    return values.transpose(1, 0, 2).reshape(values.shape[1], -1)


def _networks(values: Array, networks: int) -> Array:
    """(m, R * d) -> (R, m, d)."""
    return values.reshape(len(values), networks, -1).transpose(1, 0, 2)
