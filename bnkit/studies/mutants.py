"""The wrong variants of ``bnkit.mutants`` put before the checks of a chapter: which rejects which.

What the chapters on the transform, its gradient and its inference share.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bnkit import mutants

# an implementation with the face of ``bnkit.reference`` -> is it right
Check = Callable[[Any], bool]


def changing(*steps: str) -> list[type[mutants.Textbook]]:
    """The mutants that get one of these steps wrong, by the names of ``Textbook``'s methods."""
    return [mutant for mutant in mutants.MUTANTS if not vars(mutant).keys().isdisjoint(steps)]


def rejected_by(mutant: Any, checks: Mapping[str, Check]) -> list[str]:
    """Names of the checks that do not hold for `mutant()`; for a right variant there is none."""
    with np.errstate(all="ignore"):  # a wrong variant may well divide by zero, or make a NaN
        return [name for name, check in checks.items() if not check(mutant())]


def in_words(mutant: type[mutants.Textbook]) -> str:
    """Its name as the book writes it: EpsOutsideTheRoot is "eps outside the root"."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", mutant.__name__).lower()
