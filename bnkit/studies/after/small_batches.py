"""Chapter 10: normalisation in small mini-batches, after Wu and He (2018), from recorded runs.

``bnkit.runs.tasks.small_batches`` makes them: a convolutional network with batch, group or layer
norm, rates in proportion to the size of the batch, one pass through the same images.
"""

import numpy as np

from bnkit.runs import experiments

SIZES = (2, 4, 8, 16, 32)
NORMS = ("batch", "group", "layer")
SEEDS = (0, 1, 2)


def recorded(norm: str, curve: str = "test_accuracy") -> np.ndarray:
    """The last value of `curve` for each size of the mini-batch and each seed, (sizes, seeds).

    Raises RecordError where a run is missing.
    """

    def last(size: int, seed: int) -> float:
        return experiments.load(f"after/conv-{norm}-{size}", seed).curve(curve)[1][-1]

    return np.array([[last(size, seed) for seed in SEEDS] for size in SIZES])
