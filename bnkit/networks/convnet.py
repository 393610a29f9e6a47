"""A small convolutional network whose normalisation is an argument: batch, group or layer norm."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

NORMS: dict[str, Callable[[int], nn.Module]] = {  # for maps, from their number
    "batch": nn.BatchNorm2d,
    # Wu and He 2018 take 32 groups; these layers have 16 and 32 maps
    "group": lambda maps: nn.GroupNorm(8, maps),
    "layer": lambda maps: nn.GroupNorm(1, maps),  # one group of all maps and places
}


def convnet(
    norm: str | None,
    channels: Sequence[int] = (16, 32, 32),
    classes: int = 10,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """3 x 3 convolutions, z = relu(norm(Wu)), the mean of each map, and a linear layer.

    The first two have stride 2. Shapes: (m, 1, h, w) -> (m, classes). `norm` is a name of NORMS or
    None. Weights are He's, drawn with `generator`, and the same whatever the norm.
    """
    if norm is not None and norm not in NORMS:
        raise ValueError(f"there is no norm {norm!r}; there are: {', '.join(NORMS)}")
    layers = []
    for number, (below, maps) in enumerate(pairwise([1, *channels])):
        stride = 2 if number < 2 else 1
        layers.append(nn.Conv2d(below, maps, 3, stride, padding=1, bias=norm is None))
        layers += [NORMS[norm](maps)] if norm else []
        layers.append(nn.ReLU())
    head = nn.Linear(channels[-1], classes)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    for module in network:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
