"""What the cells of a chapter call: its parameters, the sentences that hold numbers, its results."""

from bnkit.page.quantities import curve, result, results

__all__ = ["curve", "result", "results"]
