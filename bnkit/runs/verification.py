"""Whether a run made again is the recorded one: bit for bit on its platform and by its arithmetic,
closely otherwise.

Another processor rounds otherwise, and so does code that adds in another order; training amplifies
it. Nothing is to be seen of that in the first step; after fifty steps of Inception, with momentum,
the two runs are as far apart as two seeds are. So then the start must be the same, and later only
what hardly differs between seeds is judged, within wide bounds; the rest is told.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bnkit.runs import records
from bnkit.runs.records import Record

START = 1  # the last step before rounding is amplified
AT_START = 0.01  # of the largest number of a curve: the records keep three digits of some
LATER = {"loss": 0.1, "test_accuracy": 0.1}  # of the largest loss; as a share of the test examples


class Verdict(NamedTuple):
    """What a comparison of a fresh run with its record says."""

    ok: bool
    same_platform: bool
    """``records.platform_key``: machine, threads, device, NumPy and torch."""
    same_arithmetic: bool
    """Whether both say that the same code made them (``bnkit.runs.arithmetic``)."""
    steps: int
    """How many different steps both have entries for."""
    differences: dict[str, tuple[float, float]]
    """Curve -> largest difference up to step ``START``, NaN without entry there, and over all."""
    same_weights: bool
    """Whether the weights are the same, bit for bit; within bounds, those training starts from."""
    equal: bool
    """Whether all of it is, bit for bit, asked for or not."""

    @property
    def exact(self) -> bool:
        """Whether equality was asked for, bit for bit; else the bounds of this module."""
        return self.same_platform and self.same_arithmetic


def judge(recorded: Record, fresh: Record) -> Verdict:
    """Compare two runs of one recipe over the steps that both have; `fresh` may be shorter."""
    platform = records.platform_key(recorded.manifest) == records.platform_key(fresh.manifest)
    theirs, ours = (record.manifest.get("arithmetic") for record in (recorded, fresh))
    arithmetic = theirs is not None and theirs == ours  # a record may be older than this note
    exact = platform and arithmetic
    whole = records.compare(recorded, fresh)
    start = records.compare(_start_of(recorded), _start_of(fresh)).largest_difference
    over_all = whole.largest_difference.items()
    differences = {name: (start.get(name, np.nan), largest) for name, largest in over_all}
    weights, all_weights = _same_weights(recorded, fresh)
    if exact:
        weights, close = all_weights, whole.ok
    else:
        close = bool(differences) and _near(recorded, differences)
    equal = whole.ok and all_weights
    about = whole.steps_compared, differences, weights, equal
    return Verdict(close and weights, platform, arithmetic, *about)


def _same_weights(recorded: Record, fresh: Record) -> tuple[bool, bool]:
    """Whether the weights are the same before the first step, and wherever both say theirs."""
    theirs, ours = (record.manifest.get("checksums") or {} for record in (recorded, fresh))
    same = {step: ours[step] == theirs[step] for step in ours.keys() & theirs.keys()}
    return same.get("0", True), all(same.values())


def _near(recorded: Record, differences: dict[str, tuple[float, float]]) -> bool:
    """Whether the differences are such as another platform or arithmetic makes."""
    for name, (at_start, over_all) in differences.items():
        if not np.isfinite(over_all):
            return False  # only one of the runs has this curve
        largest = np.abs(recorded.curve(name)[1]).max()
        if at_start > AT_START * largest:
            return False
        if over_all > LATER.get(name, np.inf) * (largest if name == "loss" else 1):
            return False
    return True


def _start_of(record: Record) -> Record:
    """The entries up to step ``START``; curves without any are left out."""
    cut = {}
    for name, curve in record.curves.items():
        count = int(np.searchsorted(curve["steps"], START, side="right"))
        if count:
            cut[name] = curve | {part: curve[part][:count] for part in ("steps", "values")}
    return replace(record, curves=cut)
