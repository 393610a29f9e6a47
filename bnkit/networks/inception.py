"""BN-Inception as the paper's table prints it, and a small network of the same blocks.

``Block`` is one module of the table, ``bn_inception`` the network of Section 4.2,
``small_inception`` the one that this book trains. Normalisation, nonlinearity, Local Response
Normalization and Dropout are arguments: the five networks of Section 4.2.2 are one class.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from bnkit.layers.local_response_norm import LocalResponseNorm

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # what it overwrites, BN's or a convolution's output, nobody needs again
    "relu": lambda: nn.ReLU(inplace=True),
    "sigmoid": nn.Sigmoid,
}
Norm = Callable[[int], nn.Module]  # makes the normalisation of that many feature maps


class Style(NamedTuple):
    """What every layer of a network has in common."""

    norm: Norm | None = None  # before each nonlinearity; None leaves it out
    activation: str = "relu"
    # beside a norm it is superfluous (Section 3.2), but some published counts include it
    conv_bias: bool = True


class Widths(NamedTuple):
    """One row of the table: filters in each branch of a module, and what its pooling does."""

    one: int  # 1x1; 0 in the modules with stride 2
    reduce: int  # 1x1 before the 3x3
    three: int  # 3x3
    double_reduce: int  # 1x1 before the two 3x3
    double: int  # each of the two 3x3
    pool: Literal["avg", "max"]
    proj: int  # 1x1 after the pooling; 0: the pooled maps pass through
    stride: int = 1

    def maps(self, inputs: int) -> int:
        """How many feature maps come out: the branches are concatenated."""
        return self.one + self.three + self.double + (self.proj or inputs)


class Unit(nn.Module):
    """z = g(BN(Wu)) with W a convolution, or z = g(Wu + b) without normalization (Section 3.2).

    Shapes: (N, inputs, H, W) -> (N, maps, H', W').
    """

    def __init__(
        self, inputs: int, maps: int, size: int, style: Style, stride: int = 1,
        conv: nn.Module | None = None,
    ):  # fmt: skip
        super().__init__()
        bias = style.conv_bias or style.norm is None
        self.conv = conv or nn.Conv2d(inputs, maps, size, stride, padding=size // 2, bias=bias)
        self.norm = nn.Identity() if style.norm is None else style.norm(maps)
        self.activation = ACTIVATIONS[style.activation]()

    def forward(self, u: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(u)))


class Block(nn.Module):
    """One Inception module: 1x1, 1x1 -> 3x3, 1x1 -> 3x3 -> 3x3 and pooling, concatenated.

    The 1x1 convolutions that read the module's input are carried out as one: their filters, their
    normalization and their nonlinearity know nothing of each other, so this is the same function
    with the same parameters, and faster.

    Shapes: (N, inputs, H, W) -> (N, widths.maps(inputs), H / stride, W / stride), rounded up.
    """

    def __init__(self, inputs: int, widths: Widths, style: Style):
        super().__init__()
        w = widths
        self.parts = [w.one, w.reduce, w.double_reduce]
        self.reduce = Unit(inputs, sum(self.parts), 1, style)
        self.three = Unit(w.reduce, w.three, 3, style, w.stride)
        first = Unit(w.double_reduce, w.double, 3, style)
        self.pair = nn.Sequential(first, Unit(w.double, w.double, 3, style, w.stride))
        pool = nn.MaxPool2d(3, w.stride, padding=1)
        if w.pool == "avg":
            pool = nn.AvgPool2d(3, w.stride, padding=1, count_include_pad=False)
        self.pool = nn.Sequential(pool, Unit(inputs, w.proj, 1, style)) if w.proj else pool
        self.maps = w.maps(inputs)

    def forward(self, u: Tensor) -> Tensor:
        one, reduced, pair_reduced = self.reduce(u).split(self.parts, dim=1)
        branches = [self.three(reduced), self.pair(pair_reduced), self.pool(u)]
        return torch.cat([one, *branches] if one.shape[1] else branches, dim=1)


class SideTower(nn.Module):
    """The supplement's second classifier, for training only: 5x5 pooling, 128 maps, 768 units.

    Shapes: (N, inputs, 14, 14) -> (N, classes).
    """

    def __init__(self, inputs: int, classes: int, style: Style):
        super().__init__()
        self.pool = nn.AvgPool2d(5, 3)
        self.unit = Unit(inputs, 128, 1, style)
        self.hidden = nn.Linear(128 * 4 * 4, 768)
        self.activation = ACTIVATIONS[style.activation]()
        self.output = nn.Linear(768, classes)

    def forward(self, u: Tensor) -> Tensor:
        return self.output(self.activation(self.hidden(self.unit(self.pool(u)).flatten(1))))


class Inception(nn.Module):
    """A stem, Inception modules, global average pooling, Dropout and the softmax layer.

    Shapes: (N, 3, H, W) -> (N, classes), logits; in training with a side tower a pair of them.
    """

    def __init__(
        self, stem: nn.Sequential, inputs: int, rows: Sequence[tuple[str, Widths]], classes: int,
        style: Style, dropout: float, tower_after: str | None = None,
    ):  # fmt: skip
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleDict()
        for name, widths in rows:
            self.blocks[name] = Block(inputs, widths, style)
            inputs = widths.maps(inputs)
            if name == tower_after:
                self.tower = SideTower(inputs, classes, style)
        self.tower_after = tower_after
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.output = nn.Linear(inputs, classes)

    def forward(self, u: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        u, side = self.stem(u), None
        for name, block in self.blocks.items():
            u = block(u)
            if name == self.tower_after and self.training:
                side = self.tower(u)
        logits = self.output(self.head(u))
        return logits if side is None else (logits, side)


def bn_inception(
    classes: int = 1000, *, norm: Norm | None = None, activation: str = "relu", lrn: bool = False,
    dropout: float = 0.0, projection: tuple[int, int] = (128, 128), conv_bias: bool = False,
    separable: bool = False, side_tower: bool = False, generator: torch.Generator | None = None,
) -> Inception:  # fmt: skip
    """The network of Section 4.2 for pictures of 224 x 224 pixels: the table of the Appendix.

    The sources disagree on four points, which are arguments. `projection`: filters after the
    pooling of 4c and 4d, (128, 128) in arXiv v3, (96, 128) in the conference's supplement, and (96,
    96) if the printed sizes of the outputs are to be right. `conv_bias`: biases of the
    convolutions, which Section 3.2 leaves out beside a norm (without a norm they are always there).
    `separable`: the first convolution per colour with depth multiplier 8, then 1x1 (a footnote of
    the table). `side_tower`: the second classifier of the supplement.

    `lrn` puts Local Response Normalization where GoogLeNet has it; `dropout` is the share of
    dropped inputs of the softmax layer. Weights are drawn with `generator` (``initialise``). Raises
    ValueError for an unknown `activation`.
    """
    style = _style(norm, activation, conv_bias)
    first = None
    if separable:
        depthwise = nn.Conv2d(3, 24, 7, stride=2, padding=3, groups=3, bias=False)
        first = nn.Sequential(depthwise, nn.Conv2d(24, 64, 1, bias=conv_bias or norm is None))
    response = LocalResponseNorm(5) if lrn else nn.Identity()
    stem = nn.Sequential(
        Unit(3, 64, 7, style, stride=2, conv=first),  # 112 x 112 x 64
        nn.MaxPool2d(3, 2, padding=1),  # 56 x 56 x 64
        response,
        Unit(64, 64, 1, style),
        Unit(64, 192, 3, style),  # 56 x 56 x 192
        response,
        nn.MaxPool2d(3, 2, padding=1),  # 28 x 28 x 192
    )
    rows = [  # what comes out of each
        ("3a", Widths(64, 64, 64, 64, 96, "avg", 32)),  # 28 x 28 x 256
        ("3b", Widths(64, 64, 96, 64, 96, "avg", 64)),  # 28 x 28 x 320
        ("3c", Widths(0, 128, 160, 64, 96, "max", 0, stride=2)),  # 14 x 14 x 576
        ("4a", Widths(224, 64, 96, 96, 128, "avg", 128)),  # 14 x 14 x 576
        ("4b", Widths(192, 96, 128, 96, 128, "avg", 128)),  # 14 x 14 x 576
        ("4c", Widths(160, 128, 160, 128, 160, "avg", projection[0])),  # 14 x 14 x 608, or 576
        ("4d", Widths(96, 128, 192, 160, 192, "avg", projection[1])),  # 14 x 14 x 608, or 576
        ("4e", Widths(0, 128, 192, 192, 256, "max", 0, stride=2)),  # 7 x 7 x 1056, or 1024
        ("5a", Widths(352, 192, 320, 160, 224, "avg", 128)),  # 7 x 7 x 1024
        ("5b", Widths(352, 192, 320, 192, 224, "max", 128)),  # 7 x 7 x 1024
    ]
    tower = "4c" if side_tower else None
    return initialise(Inception(stem, 192, rows, classes, style, dropout, tower), generator)


def small_inception(
    classes: int = 10, *, norm: Norm | None = None, activation: str = "relu", lrn: bool = False,
    dropout: float = 0.0, generator: torch.Generator | None = None,
) -> Inception:  # fmt: skip
    """The same modules for 32 to 64 pixels: six of them on two scales, about 250,000 parameters.

    The arguments are those of ``bn_inception``.
    """
    style = _style(norm, activation, conv_bias=False)
    response = LocalResponseNorm(5) if lrn else nn.Identity()
    stem = nn.Sequential(
        Unit(3, 24, 3, style, stride=2),  # 24 x 24 x 24, of a picture of 48 x 48 pixels
        nn.MaxPool2d(3, 2, padding=1),  # 12 x 12 x 24
        response,
        Unit(24, 48, 3, style),  # 12 x 12 x 48
        response,
    )
    rows = [
        ("3a", Widths(16, 16, 24, 16, 24, "avg", 16)),  # 12 x 12 x 80
        ("3b", Widths(24, 24, 32, 16, 24, "avg", 16)),  # 12 x 12 x 96
        ("3c", Widths(0, 32, 48, 16, 32, "max", 0, stride=2)),  # 6 x 6 x 176
        ("4a", Widths(48, 32, 48, 24, 32, "avg", 32)),  # 6 x 6 x 160
        ("4b", Widths(48, 32, 48, 24, 32, "avg", 32)),  # 6 x 6 x 160
        ("4c", Widths(48, 32, 64, 32, 48, "max", 32)),  # 6 x 6 x 192
    ]
    return initialise(Inception(stem, 48, rows, classes, style, dropout), generator)


def initialise(network: nn.Module, generator: torch.Generator | None = None) -> nn.Module:
    """Draw weights from N(0, 2 / fan_in), of linear layers N(0, 1 / fan_in); returns `network`.

    The paper does not say how. This keeps the size of signals where ReLUs follow (He et al. 2015):
    the network without batch normalization, too, can start. Biases begin at 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            gain = 2.0 if isinstance(module, nn.Conv2d) else 1.0
            nn.init.normal_(module.weight, std=math.sqrt(gain / fan_in), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def _style(norm: Norm | None, activation: str, conv_bias: bool) -> Style:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")
    return Style(norm, activation, conv_bias)
