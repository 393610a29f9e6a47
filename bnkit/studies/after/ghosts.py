"""Chapter 10: ghost batches, a mini-batch normalised in groups, as a regulariser.

After Hoffer, Hubara and Soudry (2017). Networks learn few digits by heart; nothing differs but how
many examples are normalised together.
"""

from collections.abc import Sequence
from itertools import repeat

import numpy as np
import torch
from torch import Tensor, nn

from bnkit.networks import many_torch

Array = np.ndarray


class Ghost(nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d`` that normalises a mini-batch in groups of `size` in training.

    Gamma and beta are common to all groups; in inference mode nothing differs. Running statistics
    are those of the whole mini-batch. Shapes: (m, features), m a multiple of `size` -> the same.
    """

    def __init__(self, features: int, size: int):
        super().__init__(features)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        whole = super().forward(x)
        if not self.training or self.size == len(x):
            return whole
        groups = x.view(-1, self.size, x.shape[1])
        var, mean = torch.var_mean(groups, 1, correction=0, keepdim=True)
        x_hat = ((groups - mean) / torch.sqrt(var + self.eps)).view_as(x)
        return self.weight * x_hat + self.bias


def train(
    digits, sizes: Sequence[int], *, seeds: int, steps: int, examples: int = 120, rate: float = 0.3
) -> dict[str, Array]:
    """Accuracy on the examples learned, "seen", and on the test digits, "unseen", (sizes, seeds).

    Full batches of `examples` digits, normalised in groups of each of `sizes`; tested with the
    population of all training examples. A network without BN stands last.
    """
    x, labels, x_test, labels_test = many_torch.tensors(digits)
    x, labels = x[:examples], labels[:examples]
    norms = [*(lambda features, size=size: Ghost(features, size) for size in sizes), None]
    rows = []
    for norm in norms:
        net = many_torch.mlp(x.shape[1], (50, 50), 10, range(seeds), norm)
        rates = [rate if norm else rate / 3] * seeds  # without BN the same rate is too high
        for step in many_torch.train(net, _anew(x, labels), rates):
            if step == steps:
                break
        many_torch.inference(net, x, seeds)
        parts = ((x, labels), (x_test, labels_test))
        rows.append([many_torch.accuracy(net, *part, seeds) for part in parts])
    seen, unseen = np.swapaxes(rows, 0, 1)
    return {"seen": seen, "unseen": unseen}


def _anew(x: Tensor, labels: Tensor):
    """The same examples for ever, in another order each time, so that groups never meet twice."""
    generator = torch.Generator().manual_seed(0)
    for _ in repeat(None):
        order = torch.randperm(len(x), generator=generator)
        yield x[order], labels[order]
