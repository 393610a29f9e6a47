"""haiku: `BatchNorm`, features last. It has no default for its decay; 0.99 is taken here."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from bnkit.conformance import Step

INSTALL = "dm-haiku jax"
PACKAGES = ("dm-haiku", "jax")
jax.config.update("jax_enable_x64", True)
DECAY = 0.99


def layer():
    def call(x, gamma, beta, dy, state, is_training):
        def forward(x, is_training):
            use = {"create_scale": gamma is not None, "create_offset": beta is not None}
            return hk.BatchNorm(decay_rate=DECAY, **use)(x, is_training)

        bn, x = hk.transform_with_state(forward), jnp.asarray(x)
        parameters, at_first = bn.init(None, x, True)
        shape = (*[1] * (x.ndim - 1), -1)
        if gamma is not None:
            scale, offset = (jnp.reshape(v, shape) for v in (gamma, beta))
            parameters = {"batch_norm": {"scale": scale, "offset": offset}}
        state = at_first if state is None else reshaped(state, shape)

        def f(parameters, x):
            return bn.apply(parameters, state, None, x, is_training)

        y, vjp, state = jax.vjp(f, parameters, x, has_aux=True)
        d, dx = vjp(jnp.asarray(dy))
        d = d.get("batch_norm", {})
        running = [state[f"batch_norm/~/{name}_ema"]["average"] for name in ("mean", "var")]
        results = (y, dx, d.get("scale"), d.get("offset"), *running)
        results = [None if v is None else np.asarray(v) for v in results]
        vectors = [None if v is None else v.ravel() for v in results[2:]]
        return Step(*results[:2], *vectors, state)

    def half(x, gamma, beta, dy, state):
        x, gamma, beta, dy = (jnp.asarray(v, jnp.bfloat16) for v in (x, gamma, beta, dy))
        results = call(x, gamma, beta, dy, None, True)
        return Step(*(np.asarray(v, np.float32) for v in results[:6]))

    return {
        "step": lambda *given: call(*given, True),
        "infer": lambda *given: call(*given, False),
        "bfloat16": half,
        "momentum": DECAY,
        "load": load,
    }


def reshaped(state, shape):
    """The state for a batch with another number of axes: haiku keeps them."""
    return jax.tree.map(lambda v: jnp.reshape(v, shape) if v.ndim else v, state)


def load(mean, var):
    def average(value):
        return {"counter": jnp.asarray(1), "hidden": value, "average": value}

    both = {"mean": average(jnp.asarray(mean)), "var": average(jnp.asarray(var))}
    return {f"batch_norm/~/{name}_ema": value for name, value in both.items()}


CARDS = {f"haiku, decay_rate={DECAY}": layer}
