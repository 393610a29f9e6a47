"""The fully connected network of Section 4.1; treatment and control differ in one argument."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]  # makes the normalisation of that many units
ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


class Layer(nn.Module):
    """One hidden layer: z = g(Wu + b), or z = g(BN(Wu)) where `norm` is given (Section 3.2).

    Shapes: (m, inputs) -> (m, units).
    """

    def __init__(self, inputs: int, units: int, norm: Norm | None, activation: str):
        super().__init__()
        # "the bias b can be ignored": the normalization subtracts it again and beta takes its place
        # (Section 3.2)
        self.linear = nn.Linear(inputs, units, bias=norm is None)
        self.norm = nn.Identity() if norm is None else norm(units)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, u: Tensor) -> Tensor:
        return self.activation(self.norm(self.linear(u)))


class MLP(nn.Module):
    """Fully connected hidden layers and a linear output; in the paper 784-100-100-100-10, sigmoids.

    Shapes: (m, inputs) -> (m, classes), unnormalised log-probabilities.

    `norm` makes the normalisation of a hidden layer from its number of units
    (``bnkit.layers.BatchNorm``, say); None leaves it out. Weights are drawn from N(0, `init_sigma`
    squared) with `generator`, so two networks that differ in `norm` alone start from the same
    weights. Biases start at zero, or are drawn likewise with `bias_sigma`, after the weights and
    the last ones first. Raises ValueError for an unknown `activation`.
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int] = (100, 100, 100), classes: int = 10, *,
        norm: Norm | None = None, activation: str = "sigmoid", init_sigma: float = 0.1,
        bias_sigma: float = 0.0, generator: torch.Generator | None = None,
    ):  # fmt: skip
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")
        widths = [inputs, *hidden]
        sizes = zip(widths, hidden, strict=False)
        self.hidden = nn.Sequential(*(Layer(*size, norm, activation) for size in sizes))
        self.output = nn.Linear(widths[-1], classes)
        linear = [module for module in self.modules() if isinstance(module, nn.Linear)]
        for module in linear:
            nn.init.normal_(module.weight, std=init_sigma, generator=generator)
        for module in reversed(linear):
            if module.bias is not None and bias_sigma:
                nn.init.normal_(module.bias, std=bias_sigma, generator=generator)
            elif module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, u: Tensor) -> Tensor:
        return self.output(self.hidden(u))
