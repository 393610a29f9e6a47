"""Chapter 10: which population statistics, while the network is still moving.

After Wu and Johnson (2021): moving averages against PreciseBN, statistics of a network at rest.
"""

import copy
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from bnkit import datasets
from bnkit.networks import many_torch

Array = np.ndarray


class Inference(NamedTuple):
    """Test accuracy while networks train, by where their population statistics come from."""

    steps: Array
    """Optimisation steps at which was looked, (looks,)."""
    moving: Array
    """By moving averages, (looks, rates, seeds)."""
    precise: Array
    """By those of so many images, network held still, (sizes, looks, rates, seeds)."""


def follow(
    digits, new_weight: float, rates: Sequence[float], sizes: Sequence[int], at: Sequence[int], *,
    seeds: int,
) -> Inference:  # fmt: skip
    """Train networks with torch's BN; test them after the steps `at`, ascending, in several ways.

    `new_weight` is the share of the new batch, PyTorch's ``momentum``; `digits` ``digits.Digits``.
    """
    x, labels, x_test, labels_test = many_torch.tensors(digits)
    networks, every_rate = len(rates) * seeds, np.repeat(rates, seeds)
    norm, every_seed = partial(nn.BatchNorm1d, momentum=new_weight), list(range(seeds)) * len(rates)
    net = many_torch.mlp(x.shape[1], (50, 50, 50), 10, every_seed, norm)
    order = map(torch.from_numpy, datasets.batches(len(x), 50, 0))
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    moving, precise = [], []
    for step in many_torch.train(net, ((x[k], labels[k]) for k in order), every_rate):
        if step in at:
            tests = (x_test, labels_test, networks)
            moving.append(many_torch.accuracy(net.eval(), *tests))
            seen = (x[shuffled[:size]] for size in sizes)
            still = [many_torch.inference(copy.deepcopy(net), some, networks) for some in seen]
            precise.append([many_torch.accuracy(held, *tests) for held in still])
            net.train()
        if step == at[-1]:
            break
    shape = (len(at), len(rates), seeds)
    precise = np.swapaxes(precise, 0, 1).reshape(len(sizes), *shape)
    return Inference(np.array(at), np.array(moving).reshape(shape), precise)
