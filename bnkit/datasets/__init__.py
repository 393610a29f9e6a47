"""Data sets, verified byte by byte: digits as arrays, trees of pictures, and how either comes in
mini-batches.
"""

from bnkit.datasets.arrays import (
    DataError,
    Dataset,
    available,
    batches,
    binarise,
    coloured,
    fixed_batches,
    load,
    names,
)

__all__ = [
    "DataError",
    "Dataset",
    "available",
    "batches",
    "binarise",
    "coloured",
    "fixed_batches",
    "load",
    "names",
]
