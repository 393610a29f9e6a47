"""Chapter 6: networks with BN in other company than they were trained in.

A shift of the inputs and statistics taken anew (Nado et al. 2020, Schneider et al. 2020),
fine-tuning with frozen, moving or renewed statistics, and other resolutions (Touvron et al. 2019).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from bnkit import datasets
from bnkit.networks.digits import Digits, maps
from bnkit.studies import inference
from bnkit.studies.inference import Network

Array = np.ndarray

# A shift of the inputs


def shifts(rng: Generator) -> dict[str, Callable[[Array], Array]]:
    """What may happen to pixels from 0 to 1 between training and use. Shapes: (n, d) -> (n, d)."""
    return {
        "as trained": lambda x: x,
        "a third of the contrast": lambda x: x / 3,
        "brighter by a half": lambda x: x + 0.5,
        "noise of 0.3": lambda x: x + 0.3 * rng.normal(size=x.shape),
    }


class Shifted(NamedTuple):
    """Test accuracy of networks on shifted digits, (seeds, shifts)."""

    kept: Array
    """With the statistics of training."""
    anew: Array
    """With statistics taken anew from the shifted test images, without their labels."""


def shifted(networks: Sequence[Network], populations: Sequence, digits: Digits) -> Shifted:
    """Test `networks` with the `populations` of training and with those of the shifted images."""
    labels, kept, anew = digits.test_labels, [], []
    for network, population in zip(networks, populations, strict=True):
        images = [shift(digits.x_test) for shift in shifts(np.random.default_rng(0)).values()]
        known = inference.by_population(population)
        kept.append([inference.accuracy(network, x, labels, known) for x in images])
        found = [inference.by_population(inference.truth(network, x)) for x in images]
        pairs = zip(images, found, strict=True)
        anew.append([inference.accuracy(network, x, labels, by) for x, by in pairs])
    return Shifted(np.array(kept), np.array(anew))


# Convolutions: resolution, and fine-tuning


def images(rows: Array) -> Tensor:
    """Digits as images with one map: (n, 64) -> (n, 1, 8, 8) float32."""
    return torch.from_numpy(maps(rows)).float()


def convnet(seed: int) -> nn.Sequential:
    """Two convolutions with BN, the mean over all places, a linear layer: for any resolution."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers, inputs = [], 1
        for units in (16, 32):
            convolution = nn.Conv2d(inputs, units, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(units), nn.ReLU()]
            inputs = units
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def learn(
    net: nn.Module, x: Tensor, labels: Tensor, *, steps: int, batch_size: int, rate: float,
    frozen: bool = False, seed: int = 0,
) -> None:  # fmt: skip
    """Train `net` in place by plain gradient descent; `frozen`: BN keeps its statistics."""
    optimiser = torch.optim.SGD(net.parameters(), lr=rate)
    order = datasets.batches(len(x), batch_size, seed)
    net.train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and frozen:
            module.eval()
    for _ in range(steps):
        batch = torch.from_numpy(next(order))
        loss = cross_entropy(net(x[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def renew(net: nn.Module, x: Tensor) -> nn.Module:
    """`net` in inference mode, its populations taken anew from `x`; weights stay."""
    layers = {m: m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)}
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    with torch.no_grad():
        net.train()(x)
    for layer, momentum in layers.items():
        layer.momentum = momentum
    return net.eval()


def right(net: nn.Module, x: Tensor, labels: Array) -> float:
    """Share of images that `net` names correctly, in inference mode."""
    with torch.no_grad():
        return float((net.eval()(x).argmax(1).numpy() == labels).mean())


def at_sizes(digits: Digits, sizes: Sequence[int], *, seeds: int, steps: int) -> Array:
    """Test accuracy at other resolutions than the trained one, which is 8: (2, sizes, seeds).

    First with the statistics of training, then with those of training images at the new size.
    """
    x, labels = images(digits.x), torch.from_numpy(digits.labels)
    rows = np.empty((2, len(sizes), seeds))
    for seed in range(seeds):
        net = convnet(seed)
        learn(net, x, labels, steps=steps, batch_size=50, rate=0.3, seed=seed)
        renew(net, x)
        state = {name: value.clone() for name, value in net.state_dict().items()}
        for k, size in enumerate(sizes):
            form = {"size": (size, size), "mode": "bilinear", "align_corners": False}
            test = interpolate(images(digits.x_test), **form)
            net.load_state_dict(state)
            rows[0, k, seed] = right(net, test, digits.test_labels)
            renew(net, interpolate(x[:500], **form))
            rows[1, k, seed] = right(net, test, digits.test_labels)
    return rows


WAYS = ("frozen", "moving", "renewed, then frozen")


def fine_tuned(
    digits: Digits, sizes: Sequence[int], *, seeds: int, steps: int, examples: int = 60
) -> tuple[dict[str, Array], Array]:
    """Fine-tune on few images of a third of the contrast, in mini-batches of `sizes`.

    Test accuracy on such images by way, (sizes, seeds), and before any fine-tuning, (seeds,).
    """
    x, labels = images(digits.x), torch.from_numpy(digits.labels)
    few, few_labels, test = x[:examples] / 3, labels[:examples], images(digits.x_test) / 3
    found, before = {way: np.empty((len(sizes), seeds)) for way in WAYS}, np.empty(seeds)
    for seed in range(seeds):
        net = convnet(seed)
        learn(net, x, labels, steps=steps, batch_size=50, rate=0.3, seed=seed)
        state = {name: value.clone() for name, value in net.state_dict().items()}
        before[seed] = right(net, test, digits.test_labels)
        for k, size in enumerate(sizes):
            for way in WAYS:
                net.load_state_dict(state)
                if way == "renewed, then frozen":
                    renew(net, few)
                options = {"steps": 120, "batch_size": size, "seed": seed}
                learn(net, few, few_labels, rate=0.03, frozen=way != "moving", **options)
                found[way][k, seed] = right(net, test, digits.test_labels)
    return found, before
