"""mlx: `nn.BatchNorm`, features last, on the CPU."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from bnkit.conformance import Step

INSTALL = "mlx mlx-cpu"
PACKAGES = ("mlx",)
mx.set_default_device(mx.cpu)


def layer():
    def call(x, gamma, beta, dy, state, training):
        bn = nn.BatchNorm(x.shape[-1], affine=gamma is not None)
        bn.train(training)
        x, dy = own(x), own(dy)
        if state is not None:
            bn.running_mean, bn.running_var = state
        leaves = [x] if gamma is None else [x, own(gamma), own(beta)]

        def f(x, *parameters):
            if parameters:
                bn.weight, bn.bias = parameters
            return bn(x)

        (y,), gradients = mx.vjp(f, leaves, [dy])
        gradients = [*gradients, None, None][:3]
        state = bn.running_mean, bn.running_var
        mx.eval(y, *state)
        return Step(*map(array, (y, *gradients, *state)), state)

    def half(x, gamma, beta, dy, state):
        given = [own(v).astype(mx.bfloat16) for v in (x, gamma, beta, dy)]
        return call(*given, state, True)

    return {
        "step": lambda *given: call(*given, True),
        "infer": lambda *given: call(*given, False),
        "bfloat16": half,
        "momentum": 0.1,
        "load": lambda mean, var: (own(mean), own(var)),
    }


def own(array):
    """As an array of mlx, which makes float32 of float64 unless it is told."""
    if isinstance(array, mx.array):
        return array
    return mx.array(np.ascontiguousarray(array), dtype=getattr(mx, str(array.dtype)))


def array(value):
    if value is None:
        return None
    return np.array(value.astype(mx.float32) if value.dtype == mx.bfloat16 else value)


CARDS = {"mlx": layer}
