"""Chapter 10: batch, layer and root-mean-square norm in a small transformer that reads digits.

A digit is a sequence of its eight rows, from the top. The transformer is that of Vaswani et al.
(2017) with the normalisation in front of each part (Xiong et al. 2020). It is causal: a row sees
the rows above it and no others, as a word does in a language model.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from bnkit import datasets

Array = np.ndarray
ROWS = 8


class OverTokens(nn.BatchNorm1d):
    """BN of each feature over all examples and all rows: (n, rows, d) -> the same."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).view_as(x)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch norm": OverTokens,
    "layer norm": nn.LayerNorm,
    "RMS norm": nn.RMSNorm,
    "none": lambda width: nn.Identity(),
}


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). Shapes: (n, rows, width) -> the same."""

    def __init__(self, width: int, heads: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.heads, self.first, self.second = heads, norm(width), norm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        n, rows, width = x.shape
        qkv = self.qkv(self.first(x)).view(n, rows, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (n, heads, rows, width / heads) each
        y = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, rows, width))
        return x + self.mlp(self.second(x))


class Reader(nn.Module):
    """A causal transformer that names the digit after each row: (n, 8, 8) -> (n, 8, 10)."""

    def __init__(self, norm: str, *, width: int = 32, blocks: int = 4, heads: int = 4):
        super().__init__()
        make = NORMS[norm]
        self.embed = nn.Linear(ROWS, width)
        self.place = nn.Parameter(0.1 * torch.randn(ROWS, width))
        self.blocks = nn.Sequential(*(Block(width, heads, make) for _ in range(blocks)))
        self.head = nn.Sequential(make(width), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(x) + self.place))


def build(norm: str, seed: int) -> Reader:
    """An untrained reader; equal seeds are equal weights, whatever the norm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Reader(norm)


def train(
    digits, norm: str, sizes: Sequence[int], *, seeds: int, steps: int, rate: float = 3e-3
) -> tuple[Array, list[Reader]]:
    """Test accuracy after the last row by batch size and seed, (sizes, seeds), and the readers.

    Adam; the number of examples seen is the same for every size: smaller batches, more steps.
    `steps` are those of the largest size.
    """
    x, labels = (torch.from_numpy(v) for v in (digits.x.reshape(-1, ROWS, ROWS), digits.labels))
    tests = digits.x_test.reshape(-1, ROWS, ROWS), digits.test_labels
    accuracy, readers = [], []
    for size in sizes:
        for seed in range(seeds):
            net = build(norm, seed)
            optimiser = torch.optim.Adam(net.parameters(), lr=rate * size / max(sizes))
            order = datasets.batches(len(x), size, seed)
            for _ in range(steps * max(sizes) // size):
                batch = torch.from_numpy(next(order))
                loss = cross_entropy(net(x[batch])[:, -1], labels[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            with torch.no_grad():
                named = net.eval()(torch.from_numpy(tests[0]))[:, -1].argmax(1).numpy()
            accuracy.append((named == tests[1]).mean())
            readers.append(net)
    return np.reshape(accuracy, (len(sizes), seeds)), readers


def sees(norm: str, digits, *, row: int = 3) -> dict[str, bool]:
    """What the answer after `row` depends on in training: later rows, and other examples.

    By the gradient of that answer for one example; exact zeros are none.
    """
    net = build(norm, 0).train()
    x = torch.from_numpy(digits.x[:16].reshape(-1, ROWS, ROWS)).requires_grad_()
    net(x)[0, row].pow(2).sum().backward()
    slopes = x.grad.abs().sum(2)  # (examples, rows)
    return {
        "the rows so far": bool(slopes[0, : row + 1].sum() > 0),
        "later rows of the digit": bool(slopes[0, row + 1 :].sum() > 0),
        "other digits of the batch": bool(slopes[1:].sum() > 0),
    }
