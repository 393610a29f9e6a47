"""Chapter 10: how deep a network can be with BN, with skip connections, or with a good start.

Explosion in chains with BN after Yang et al. (2019); residual networks without normalisation after
Zhang et al. (2019, Fixup) and De and Smith (2020, SkipInit).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bnkit import datasets
from bnkit.networks import many_numpy, many_torch
from bnkit.page import progress

Array = np.ndarray


class Kind(NamedTuple):
    """A kind of network."""

    name: str
    skip: bool  # blocks are x + branch(x), or branch(x) alone
    norm: bool = False
    start: str = "He"  # or "Fixup", "SkipInit"


KINDS = (
    Kind("chain", skip=False),
    Kind("chain, BN", skip=False, norm=True),
    Kind("residual", skip=True),
    Kind("residual, BN", skip=True, norm=True),
    Kind("residual, SkipInit", skip=True, start="SkipInit"),
    Kind("residual, Fixup", skip=True, start="Fixup"),
)


class Block(nn.Module):
    """Two layers, W2 relu(norm(W1 relu(norm(x)))), perhaps with a skip connection; R networks.

    Fixup starts W2 at 0 and W1 at He's weights over sqrt(`blocks`), which is L^(−1/(2m−2)) for m =
    2 layers, and gives the branch a factor that starts at 1. Its extra biases are those that the
    layers have. SkipInit leaves He's weights and starts the factor at 0. Shapes: (R, m, units) ->
    the same.
    """

    def __init__(self, units: int, generators: Sequence, kind: Kind, blocks: int):
        super().__init__()
        networks, he = len(generators), 2**0.5
        first, second = (he / blocks**0.5, 0.0) if kind.start == "Fixup" else (he, he)
        parts = []
        for gain in (first, second):
            norm = (networks, units, nn.BatchNorm1d)
            parts += [many_torch.Normalised(*norm) if kind.norm else nn.Identity(), nn.ReLU()]
            parts.append(many_torch.Linear(units, units, generators, gain, bias=not kind.norm))
        self.branch, self.skip, self.factor = nn.Sequential(*parts), kind.skip, None
        if kind.start in ("Fixup", "SkipInit"):
            start = float(kind.start == "Fixup")
            self.factor = nn.Parameter(torch.full((networks, 1, 1), start))

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        y = y if self.factor is None else self.factor * y
        return x + y if self.skip else y


def build(
    kind: Kind, inputs: int, units: int, blocks: int, classes: int, seeds: Sequence[int]
) -> nn.Sequential:
    """Linear, `blocks` blocks, ReLU, linear, for each of `seeds`: 2 blocks + 2 layers."""
    generators = [np.random.default_rng(seed) for seed in seeds]
    first = many_torch.Linear(inputs, units, generators, gain=1.0)
    body = [Block(units, generators, kind, blocks) for _ in range(blocks)]
    last = many_torch.Linear(units, classes, generators, gain=0.0 if kind.start == "Fixup" else 1.0)
    return nn.Sequential(first, *body, nn.ReLU(), last)


def train(
    digits, kind: Kind, depths: Sequence[int], *, seeds: int, steps: int,
    rates: Sequence[float] = (0.03, 0.1), units: int = 32,
) -> Array:  # fmt: skip
    """Test accuracy by number of blocks, at the rate best on training images, (depths, seeds).

    A network that has diverged counts as 0. `digits` is a ``digits.Digits``.
    """
    x, labels, x_test, labels_test = many_torch.tensors(digits)
    networks, accuracies = len(rates) * seeds, []
    for blocks in depths:
        net = build(kind, x.shape[1], units, blocks, 10, list(range(seeds)) * len(rates))
        order = map(torch.from_numpy, progress.first(datasets.batches(len(x), 50, 0), steps))
        for _ in many_torch.train(net, ((x[k], labels[k]) for k in order), np.repeat(rates, seeds)):
            pass
        many_torch.inference(net, x[:500], networks)
        parts = ((x[:500], labels[:500]), (x_test, labels_test))
        seen, tested = (many_torch.accuracy(net, *part, networks) for part in parts)
        # parameters as (R, ...), those of normalisations, which are (R * units,), too
        sums = [value.detach().view(networks, -1).sum(1) for value in net.parameters()]
        alive = torch.isfinite(torch.stack(sums)).all(0).numpy()
        seen, tested = ((share * alive).reshape(-1, seeds) for share in (seen, tested))
        accuracies.append(tested[seen.mean(1).argmax()])
    return np.array(accuracies)


class Branches(NamedTuple):
    """Variance in untrained residual networks, (blocks, R)."""

    skip: Array
    """Of the input of each block, over examples, mean over units."""
    branch: Array
    """Of what the block adds to it."""


def branches(kind: Kind, x: Array, blocks: int, *, seeds: int, units: int = 100) -> Branches:
    """Size of the branches beside the skip connection, untrained. Shapes: x (m, inputs)."""
    net = build(kind, x.shape[1], units, blocks, 10, range(seeds))
    skip, branch = [], []
    with torch.no_grad():
        u = net[0](torch.from_numpy(x).expand(seeds, *x.shape))
        for block in net[1 : blocks + 1]:
            out = block(u)
            skip.append(u.var(1).mean(1).numpy())
            branch.append((out - u).var(1).mean(1).numpy())
            u = out
    return Branches(np.array(skip), np.array(branch))


def chain(orthogonal: bool, *, depth: int, seeds: int, width: int = 32, batch: int = 64) -> Array:
    """Squared gradient through an untrained linear chain with BN, over that at its top.

    Weights are Gaussian, or drawn `orthogonal` (Meterez et al. 2024). Shape (depth, seeds), from the
    top down.
    """
    form = (width, width, depth, None, "linear", True, lambda fan_in, _: fan_in**-0.5)
    networks = many_numpy.build(*form, range(seeds), eps=0.0)
    if orthogonal:
        for layer in networks.layers:
            layer["weight"] = np.stack([np.linalg.qr(weight)[0] for weight in layer["weight"]])
    generator = np.random.default_rng([depth, width, batch])
    x, d_outputs = generator.normal(size=(2, batch, width))
    _, tape = many_numpy.forward(networks, x)
    _, d_inputs = many_numpy.backward(networks, tape, np.stack([d_outputs] * seeds))
    outputs = [*d_inputs[1:], np.stack([d_outputs] * seeds)]  # of each layer
    sizes = np.array([(d**2).sum((1, 2)) for d in outputs])[::-1]
    return sizes / sizes[0]
