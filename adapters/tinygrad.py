"""tinygrad: `nn.BatchNorm`. DEV=PYTHON runs it where there is no clang, and is slow."""

import os
import shutil

import numpy as np

if not shutil.which("clang"):
    os.environ.setdefault("DEV", "PYTHON")

from tinygrad import Tensor, dtypes, nn
from tinygrad.helpers import Context

from bnkit.conformance import Step

INSTALL = "tinygrad"
PACKAGES = ("tinygrad",)


def layer():
    def call(x, gamma, beta, dy, state, training):
        bn = nn.BatchNorm(x.shape[1], affine=gamma is not None)
        if state is not None:
            bn.running_mean, bn.running_var = (Tensor(v) for v in state)
        x, dy = leaf(x), Tensor(np.ascontiguousarray(dy))
        leaves = [x]
        if gamma is not None:
            bn.weight, bn.bias = leaf(gamma), leaf(beta)
            leaves += [bn.weight, bn.bias]
        with Context(TRAINING=int(training)):
            y = bn(x)
            gradients = [*y.gradient(*leaves, gradient=dy), None, None][:3]
        state = bn.running_mean.numpy(), bn.running_var.numpy()
        gradients = [None if v is None else v.numpy() for v in gradients]
        return Step(y.numpy(), *gradients, *state, state)

    def half(x, gamma, beta, dy, state):
        bn = nn.BatchNorm(x.shape[1])
        x, bn.weight, bn.bias, dy = (Tensor(v).cast(dtypes.bfloat16) for v in (x, gamma, beta, dy))
        with Context(TRAINING=1):
            y = bn(x)
            gradients = y.gradient(x, bn.weight, bn.bias, gradient=dy)
        return Step(*(v.float().numpy() for v in (y, *gradients)))

    return {
        "step": lambda *given: call(*given, True),
        "infer": lambda *given: call(*given, False),
        "bfloat16": half,
        "momentum": 0.1,
        "load": lambda mean, var: (mean, var),
        "limit": 120.0,
    }


def leaf(array):
    return Tensor(np.ascontiguousarray(array))


CARDS = {"tinygrad": layer}
