"""How grey pixels become binary: Section 4.1 says "28x28 binary image" and not how.

Pixels drawn at random are a function of a seed and of where they are used, of nothing else: a run
that is taken up again sees the same.
"""

from typing import NamedTuple

import numpy as np

WAYS: dict[str, str] = {
    "threshold": "1 above half of white",
    "ink": "1 wherever there is any ink",
    "once": "drawn once, 1 with the probability of the grey value",
    "drawn": "drawn at every use, 1 with the probability of the grey value",
    "grey": "not binary: the grey value, from 0 to 1",
}
DRAWN = ("once", "drawn")  # those that depend on the seed

# Where pixels are used. None is zero, so that no draw shares random numbers with the order of the
# examples, which ``datasets.batches`` draws from [seed, epoch].
TRAINING, POPULATION, TEST = 1, 2, 3
_LEVELS = 2**16  # of a random number


class Pixels(NamedTuple):
    """One way of making grey values binary, a name of ``WAYS``, and the seed of what is drawn."""

    way: str
    white: int  # the largest grey value
    seed: int = 0

    def kept(self, pictures: np.ndarray, use: int) -> np.ndarray:
        """What is kept of `pictures`: all of it that does not depend on the moment of use.

        Shapes: (n, h, w) uint8 -> (n, h * w) uint8. Raises KeyError for an unknown way.
        """
        rows = pictures.reshape(len(pictures), -1)
        if self.way == "threshold":
            return (rows > self.white // 2).view(np.uint8)
        if self.way == "ink":
            return (rows > 0).view(np.uint8)
        if self.way == "once":
            parts = np.array_split(rows, max(1, len(rows) // 1000))  # random numbers take room
            return np.concatenate([self._draw(part, n, use, 1) for n, part in enumerate(parts)])
        if self.way not in WAYS:
            raise KeyError(
                f"no way {self.way!r} to make pixels binary; there are {', '.join(WAYS)}"
            )
        return rows

    def used(self, kept: np.ndarray, moment: int, use: int) -> np.ndarray:
        """What a network is given of them at this moment of this use: (m, pixels) float32."""
        if self.way == "drawn":
            return self._draw(kept, moment, use).astype(np.float32)
        values = kept.astype(np.float32)
        return np.divide(values, self.white, out=values) if self.way == "grey" else values

    def _draw(self, grey: np.ndarray, *where: int) -> np.ndarray:
        """1 with the probability grey / white, to one part in 10,000; black and white stay."""
        # raw words, four numbers each: three times as fast as a generator's integers
        words = np.random.SFC64([self.seed, *where]).random_raw(-(-grey.size // 4))
        drawn = words.astype("<u8", copy=False).view("<u2")[: grey.size].reshape(grey.shape)
        ink = drawn < grey.astype(np.uint16) * np.uint16(_LEVELS // self.white)
        return np.logical_or(ink, grey == self.white, out=ink).view(np.uint8)
