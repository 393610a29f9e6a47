"""keras on torch."""

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
import torch

from bnkit.conformance import library

INSTALL = "keras torch"
PACKAGES = ("keras", "torch")
shared = library.adapter(Path(__file__).with_name("keras.py"))


def on_torch():
    def call_with_gradients(layer, x, dy, training):
        dtype = getattr(torch, layer.compute_dtype)
        x = torch.tensor(np.ascontiguousarray(x), dtype=dtype, requires_grad=True)
        trainable = [v.value for v in layer.trainable_variables]
        y = layer(x, training=training)
        dx, *d = torch.autograd.grad(
            y, [x, *trainable], torch.tensor(np.ascontiguousarray(dy), dtype=y.dtype)
        )
        state = [v.value for v in layer.non_trainable_variables]
        return *plain([y, dx]), plain(d), plain(state)

    return shared.of_backend(call_with_gradients)


def plain(values):
    """As NumPy arrays, bfloat16 as float32."""
    values = [v.float() if v.dtype == torch.bfloat16 else v for v in values]
    return [value.detach().cpu().numpy().copy() for value in values]


CARDS = {"keras on torch": on_torch}
