"""Data sets, verified byte by byte: digits as arrays, trees of pictures, and mini-batches."""

from bnkit.datasets.arrays import (
    Dataset,
    available,
    batches,
    coloured,
    fixed_batches,
    load,
    names,
)
from bnkit.datasets.files import DataError

__all__ = ["DataError", "Dataset", "available", "batches"]
__all__ += ["coloured", "fixed_batches", "load", "names"]
