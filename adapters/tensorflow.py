"""tensorflow: keras' layer on it, and its own operator, `tf.compat.v1.nn.fused_batch_norm`."""

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from bnkit.conformance import Step, library

INSTALL = "tensorflow-cpu"
PACKAGES = ("tensorflow-cpu", "keras")
shared = library.adapter(Path(__file__).with_name("keras.py"))


def keras_layer():
    def call_with_gradients(layer, x, dy, training):
        x = (
            tf.convert_to_tensor(x)
            if layer.compute_dtype != "bfloat16"
            else tf.cast(x, tf.bfloat16)
        )
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
        trainable = [v.value for v in layer.trainable_variables]
        dx, *d = tape.gradient(y, [x, *trainable], output_gradients=tf.cast(dy, y.dtype))
        state = [v.value for v in layer.non_trainable_variables]
        return *shared.plain([y, dx]), shared.plain(d), shared.plain(state)

    return shared.of_backend(call_with_gradients)


def fused():
    """The operator; its running values begin at 0 and 1 here, as in keras."""

    def call(x, gamma, beta, dy, state, training):
        d = x.shape[-1]
        mean, var = (tf.zeros(d), tf.ones(d)) if state is None else state
        shape = x.shape if x.ndim == 4 else (x.shape[0], 1, 1, d)
        x, gamma, beta = (tf.convert_to_tensor(v) for v in (x, gamma, beta))
        options = {"epsilon": 1e-3, "exponential_avg_factor": 0.01, "is_training": training}
        with tf.GradientTape() as tape:
            for leaf in (x, gamma, beta):
                tape.watch(leaf)
            maps = tf.reshape(x, shape)
            y, mean, var = tf.compat.v1.nn.fused_batch_norm(maps, gamma, beta, mean, var, **options)
            y = tf.reshape(y, x.shape)
        gradients = tape.gradient(y, [x, gamma, beta], output_gradients=tf.convert_to_tensor(dy))
        return Step(*(v.numpy() for v in (y, *gradients, mean, var)), (mean, var))

    return {
        "step": lambda *given: call(*given, True),
        "infer": lambda *given: call(*given, False),
        "load": lambda mean, var: (tf.constant(mean), tf.constant(var)),
        "dtypes": ("float32",),
    }


CARDS = {"keras on tensorflow": keras_layer, "tensorflow, fused_batch_norm": fused}
