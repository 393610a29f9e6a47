"""What three batches leave in a running value, and which moving average that is."""

from typing import NamedTuple

import numpy as np

from bnkit.conformance import judge
from bnkit.conformance.questions import CLOSE, NO_RULE, biased_or_not, rounded
from bnkit.conformance.step import SPACING

FIRST = "the first batch alone"
FROZEN = f"{NO_RULE}: no batch after the first one counts"


class Fit(NamedTuple):
    """A running value as share · new + keep · old + rest, the same in every channel."""

    share: float
    keep: float
    rest: float


def fit(new, old, result) -> Fit | None:
    """The fit over channels, (d,) each; None for a bad one. `old` is None before any batch."""
    columns = [new] if old is None else [new, old]
    matrix = np.stack([*columns, np.ones(len(new))], axis=1).astype(np.float64)
    result = np.asarray(result, np.float64)
    solution = np.linalg.lstsq(matrix, result, rcond=None)[0]
    miss = np.max(np.abs(matrix @ solution - result))
    if not miss < CLOSE * np.ptp(result):
        return None
    share, *keep, rest = solution
    return Fit(float(share), float(keep[0]) if keep else 0.0, float(rest))


class Average(NamedTuple):
    """One running value, of means or of variances, after each of three batches."""

    values: list[np.ndarray]
    fits: list[Fit | None]

    @property
    def fitted(self) -> bool:
        return None not in self.fits

    @property
    def shares(self) -> list[float]:
        return [fit.share for fit in self.fits]

    @property
    def still(self) -> bool:
        """Whether no batch after the first has changed it."""
        first, *later = self.values
        return all(np.array_equal(first, value) for value in later)

    @property
    def untouched(self) -> bool:
        """Whether the first has not, either: it is the same in channels that are not."""
        return self.still and np.ptp(self.values[0]) == 0

    def faint(self, dtype) -> bool:
        """Whether it changes by too few digits to tell how. Many keep float32 for float64."""
        change = np.max(np.abs(np.diff(np.array(self.values, np.float64), axis=0)))
        digit = max(SPACING[dtype], SPACING["float32"]) * np.max(np.abs(self.values))
        return not self.still and bool(change < 1000 * digit)


def of(batches, steps, name) -> Average:
    """The average of one running value, "mean" or "var", over three steps."""
    old, fits = None, []
    values = [getattr(step, name) for step in steps]
    for x, value in zip(batches, values, strict=True):
        fits.append(fit(judge.moments(x)[("mean", "var").index(name)], old, value))
        old = value
    return Average(values, fits)


def weight_and_start(shares):
    """What three shares of the new batch say: the weight, and in words how it begins.

    Nothing is said of a beginning with values: which they are is not in the shares.
    """
    first, second, third = shares
    if abs(first - 1) > CLOSE:
        alike = max(abs(second - first), abs(third - first)) < CLOSE
        return (rounded(first) if alike else no_weight(shares)), ""
    if second <= 0:
        return no_weight(shares), FIRST
    debiased = 1 / second - 1
    if abs(second - third) < CLOSE:
        return rounded(second), FIRST
    if abs(third - 1 / (1 + debiased + debiased**2)) < CLOSE:
        if abs(debiased - 1) < CLOSE:
            return "1 / batches", FIRST
        return rounded(1 - debiased), "debiased"
    return no_weight(shares), FIRST


def no_weight(shares) -> str:
    return f"{NO_RULE}: its shares are {', '.join(f'{tidy(share):g}' for share in shares)}"


def tidy(value) -> float:
    """A value to three digits; 0 where it is nothing but rounding."""
    return 0.0 if abs(value) < CLOSE else rounded(value, 3)


class Variance(NamedTuple):
    """What is known of a running variance."""

    kept: str
    """"biased", "unbiased", or in words why neither."""
    shares: list[float] | None = None
    """Of the new batch, in each of the three steps; None where that is not known."""
    own: bool = False
    """Whether these are not those of the mean."""


def variance(mean: Average, var: Average) -> Variance:
    """A running variance by the mean's shares; else, where that fits, by shares of its own."""
    if var.still:
        return Variance("it never changes" if var.untouched else FROZEN)
    if not var.fitted:
        return Variance(f"{NO_RULE}: it is no average of variances")
    by_mean = by_shares(mean.shares, var) if mean.fitted and not mean.still else None
    if by_mean in ("biased", "unbiased"):
        return Variance(by_mean, mean.shares)
    kept = [1 - keep for _, keep, _ in var.fits[1:]]
    for word, factor in (("biased", 1.0), ("unbiased", 4 / 3)):
        shares = [share / factor for share in var.shares]
        weight, _ = weight_and_start(shares)
        alike = np.allclose(kept, shares[1:], rtol=0.1, atol=0)  # noise is less, 4/3 is more
        if alike and not str(weight).startswith(NO_RULE):
            return Variance(word, shares, own=True)
    return Variance(by_mean or f"{NO_RULE}: it is no moving average")


def by_shares(shares, var: Average) -> str:
    """What `var` keeps if a new batch has these shares in it: a word, or why there is none."""
    ratios = np.array(var.shares) / shares
    if np.max(np.abs(ratios / ratios[0] - 1)) > 10 * CLOSE:
        return f"{NO_RULE}: its shares are not those of the mean"
    for (_, keep, _), share in zip(var.fits[1:], shares[1:], strict=True):
        if abs(keep - 1 + share) > 10 * CLOSE:
            return f"{NO_RULE}: of the old value it keeps {tidy(keep):g}, not {1 - share:.3g}"
    return biased_or_not(ratios[0], 4)
