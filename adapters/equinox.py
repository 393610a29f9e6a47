"""equinox: `nn.BatchNorm`, one example at a time under `vmap`, features first; both modes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from bnkit.conformance import Step

INSTALL = "equinox"
PACKAGES = ("equinox", "jax")
jax.config.update("jax_enable_x64", True)


def of_mode(mode):
    # After so many batches nothing is left of the start, and nothing to be debiased.
    count = jnp.array(False) if mode == "ema" else jnp.array(1_000_000)

    def call(x, gamma, beta, dy, state, inference):
        affine = {"channelwise_affine": gamma is not None}
        bn = eqx.nn.BatchNorm(x.shape[1], "batch", dtype=x.dtype, mode=mode, **affine)
        state = eqx.nn.State(bn) if state is None else state.restored(bn)

        def f(parameters, x):
            layer = bn
            if gamma is not None:
                layer = eqx.tree_at(lambda bn: (bn.weight, bn.bias), bn, parameters)

            def one(x, state):
                return layer(x, state, inference=inference)

            return jax.vmap(one, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)

        parameters = None if gamma is None else (jnp.asarray(gamma), jnp.asarray(beta))
        y, vjp, after = jax.vjp(f, parameters, jnp.asarray(x), has_aux=True)
        d, dx = vjp(jnp.asarray(dy))
        kept = Kept([after.get(index) for index in indices(bn)])
        results = (y, dx, *(d or (None, None)), *kept.running(bn))
        return Step(*(None if v is None else np.asarray(v) for v in results), kept)

    def half(x, gamma, beta, dy, state):
        x, gamma, beta, dy = (jnp.asarray(v, jnp.bfloat16) for v in (x, gamma, beta, dy))
        results = call(x, gamma, beta, dy, None, False)
        return Step(*(np.asarray(v, np.float32) for v in results[:6]))

    return {
        "step": lambda *given: call(*given, False),
        "infer": lambda *given: call(*given, True),
        "bfloat16": half,
        "momentum": 0.99,
        "load": lambda mean, var: Kept([count, (jnp.asarray(mean), jnp.asarray(var))]),
    }


class Kept:
    """A state by value: an equinox State belongs to the layer that made it."""

    def __init__(self, values):
        self.values = values

    def restored(self, bn):
        state = eqx.nn.State(bn)
        for index, value in zip(indices(bn), self.values, strict=True):
            state = state.set(index, value)
        return state

    def running(self, bn):
        """Mean and variance as inference computes them."""
        counter, (mean, var) = self.values
        if bn.mode == "ema":
            return mean, var
        scale = jnp.where(counter == 0, 1, 1 - bn.momentum**counter)
        return mean / scale, var / scale


def indices(bn):
    if bn.mode == "ema":
        return bn.ema_first_time_index, bn.ema_state_index
    return bn.batch_counter, bn.batch_state_index


CARDS = {
    'equinox, mode="batch"': lambda: of_mode("batch"),
    'equinox, mode="ema"': lambda: of_mode("ema"),
}
