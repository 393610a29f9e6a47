"""flax: `nnx.BatchNorm` and `linen.BatchNorm`, features last."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from bnkit.conformance import Step

INSTALL = "flax"
PACKAGES = ("flax", "jax")
jax.config.update("jax_enable_x64", True)


def of_nnx(**options):
    def layer(x, gamma, beta, state):
        use = {"use_scale": gamma is not None, "use_bias": beta is not None}
        kept = {"dtype": x.dtype, "param_dtype": x.dtype, "rngs": nnx.Rngs(0)}
        bn = nnx.BatchNorm(x.shape[-1], **use, **kept, **options)
        if gamma is not None:
            bn.scale[...], bn.bias[...] = gamma, beta
        if state is not None:
            bn.mean, bn.var = (nnx.BatchStat(jnp.asarray(v)) for v in state)
        return nnx.split(bn, nnx.Param, nnx.BatchStat)

    def call(x, gamma, beta, dy, state, use_running_average):
        graph, parameters, statistics = layer(x, gamma, beta, state)

        def f(parameters, x, statistics):
            bn = nnx.merge(graph, parameters, statistics)
            y = bn(x, use_running_average=use_running_average)
            return y, (bn.mean[...], bn.var[...])

        y, vjp, state = jax.vjp(f, parameters, jnp.asarray(x), statistics, has_aux=True)
        d, dx, _ = vjp(jnp.asarray(dy))
        gradients = (d["scale"][...], d["bias"][...]) if gamma is not None else (None, None)
        return Step(*map(array, (y, dx, *gradients, *state)), state)

    return arguments(call)


def of_linen():
    def call(x, gamma, beta, dy, state, use_running_average):
        use = {"use_scale": gamma is not None, "use_bias": beta is not None}
        kept = {"dtype": x.dtype, "param_dtype": x.dtype}
        bn = linen.BatchNorm(use_running_average, **use, **kept)
        variables = bn.init(jax.random.key(0), jnp.asarray(x))
        statistics = variables["batch_stats"] if state is None else state

        def f(parameters, x):
            given = {"params": parameters, "batch_stats": statistics}
            y, changed = bn.apply(given, x, mutable=["batch_stats"])
            return y, changed["batch_stats"]

        parameters = {} if gamma is None else {"scale": gamma, "bias": beta}
        y, vjp, state = jax.vjp(f, parameters, jnp.asarray(x), has_aux=True)
        d, dx = vjp(jnp.asarray(dy))
        results = (y, dx, d.get("scale"), d.get("bias"), state["mean"], state["var"])
        return Step(*map(array, results), state)

    return arguments(call)


def array(value):
    return None if value is None else np.asarray(value)


def arguments(call):
    def half(x, gamma, beta, dy, state):
        x, gamma, beta, dy = (jnp.asarray(v, jnp.bfloat16) for v in (x, gamma, beta, dy))
        results = call(x, gamma, beta, dy, state, False)
        return Step(*(np.asarray(v, np.float32) for v in results[:6]))

    return {
        "step": lambda *given: call(*given, False),
        "infer": lambda *given: call(*given, True),
        "bfloat16": half,
        "momentum": 0.99,
        "load": lambda mean, var: (mean, var),
    }


CARDS = {
    "flax nnx": of_nnx,
    "flax nnx, use_fast_variance=False": lambda: of_nnx(use_fast_variance=False),
    "flax linen": lambda: of_linen() | {"load": lambda mean, var: {"mean": mean, "var": var}},
}
