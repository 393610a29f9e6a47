"""keras: `layers.BatchNormalization`, features last, on jax. Other backends import this file."""

import os

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

from bnkit.conformance import Step

INSTALL = "keras jax"
PACKAGES = ("keras", "jax")


def of_backend(call_with_gradients):
    """What ``examine`` needs; `call_with_gradients` is the backend's own way to the gradients."""

    def call(x, gamma, beta, dy, state, training, dtype=None):
        affine = {"center": beta is not None, "scale": gamma is not None}
        layer = keras.layers.BatchNormalization(dtype=dtype or str(x.dtype), **affine)
        layer.build(x.shape)
        for variable, value in zip(layer.trainable_variables, (gamma, beta), strict=False):
            variable.assign(value)
        for variable, value in zip(layer.non_trainable_variables, state or (), strict=False):
            variable.assign(value)
        y, dx, gradients, state = call_with_gradients(layer, x, dy, training)
        gradients = gradients or (None, None)
        return Step(y, dx, *gradients, *state, state)

    def half(x, gamma, beta, dy, state):
        return call(x, gamma, beta, dy, state, True, "bfloat16")

    return {
        "step": lambda *given: call(*given, True),
        "infer": lambda *given: call(*given, False),
        "bfloat16": half,
        "momentum": 0.99,
        "load": lambda mean, var: (mean, var),
    }


def on_jax():
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def call_with_gradients(layer, x, dy, training):
        trainable = [v.value for v in layer.trainable_variables]
        others = [v.value for v in layer.non_trainable_variables]

        def f(trainable, x):
            return layer.stateless_call(trainable, others, x, training=training)

        x = jnp.asarray(x, layer.compute_dtype)
        y, vjp, state = jax.vjp(f, trainable, x, has_aux=True)
        d, dx = vjp(jnp.asarray(dy, y.dtype))
        return *plain([y, dx]), plain(d), plain(state)

    return of_backend(call_with_gradients)


def plain(values):
    """As NumPy arrays, bfloat16 as float32."""
    arrays = [np.asarray(value) for value in values]
    return [a.astype(np.float32) if a.dtype.name == "bfloat16" else a for a in arrays]


CARDS = {"keras on jax": on_jax}
