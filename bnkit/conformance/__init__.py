"""Any batch normalization, examined: one set of questions for every implementation.

``examine(step)`` asks a function from NumPy to NumPy what its conventions are and where it loses
digits. It needs NumPy alone.
"""

from bnkit.conformance.card import Card, from_json
from bnkit.conformance.examine import examine
from bnkit.conformance.step import Step

__all__ = ["Card", "Step", "examine", "from_json"]
