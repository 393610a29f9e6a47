"""The whole suite with other random numbers: ``BNKIT_TEST_SEED=7 make test``.

Tests seed their generators by constants, ``np.random.default_rng(0)``. With another number than 0
in the variable, a call that stands in a file of tests is given another seed in the place of its
own. Calls in bnkit and in chapters keep theirs: they belong to recipes and records. So does one in
a test that has to be that of a recipe; it says ``Fixed(0)``.

Hypothesis draws from the same number, see ``conftest``.
"""

import os
import random
import sys
from pathlib import Path
from types import FrameType

import numpy as np

SEED = int(os.environ.get("BNKIT_TEST_SEED", "0"))
APART = 1_000_003  # of one number from the next: more than any seed in a test
TESTS = os.path.join(Path(__file__).resolve().parent, "")


class Fixed(int):
    """A seed that stays, whatever the suite is run with."""


def seen(seed: object, caller: FrameType) -> object:
    """The seed that the generator gets: another than `seed` where `caller` stands in a test."""
    if SEED == 0 or not caller.f_code.co_filename.startswith(TESTS):
        return seed
    if isinstance(seed, list) and not any(isinstance(part, Fixed) for part in seed):
        return [*seed, SEED]
    return seed + APART * SEED if type(seed) is int else seed


def shift() -> None:
    """Let NumPy and torch see seeds so, in this process. Where the number is 0 nothing changes."""
    if SEED == 0 or hasattr(np.random.default_rng, "plain"):
        return
    import torch  # not at the top: some tests do without

    default_rng, manual_seed = np.random.default_rng, torch.manual_seed

    def rng(seed=None):
        return default_rng(seen(seed, sys._getframe(1)))

    def for_all(seed):
        return manual_seed(seen(seed, sys._getframe(1)))

    class Generator(torch.Generator):
        def manual_seed(self, seed):
            return super().manual_seed(seen(seed, sys._getframe(1)))

    rng.plain = default_rng
    np.random.default_rng, torch.manual_seed, torch.Generator = rng, for_all, Generator


def begin() -> None:
    """The state of the process's own generators, before each test: no test hands it to the next."""
    random.seed(SEED)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)
