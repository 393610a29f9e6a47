"""The two implementations of this book: the PyTorch layer and the NumPy reference."""

from pathlib import Path

from bnkit import layers, reference
from bnkit.conformance import faces, library

INSTALL = "torch==2.13.0"
PACKAGES = ("torch",)
shared = library.adapter(Path(__file__).with_name("torch.py"))


def layer():
    return shared.of_layer(dict.fromkeys((2, 4, 5), layers.BatchNorm))


def numpy_reference():
    step, infer = faces.of_reference(reference)
    load = {"load": lambda mean, var: reference.Population(mean, var, 1)}
    return {"step": step, "infer": infer, **load}


CARDS = {"bnkit.layers.BatchNorm": layer, "bnkit.reference": numpy_reference}
