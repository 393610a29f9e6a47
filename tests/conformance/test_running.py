"""Running values that follow no rule, or never change: what is said of such averages, and that it
is held against them.
"""

import numpy as np
import pytest
from cards import card, differences, sound

from bnkit.conformance.judge import Running
from bnkit.conformance.mutants import TrainsByRunningValues
from bnkit.conformance.variants import Variant

UNKNOWN = "cannot be told: it is 0.1, and the share of the new batch is not known"
FROZEN = "no rule fits: no batch after the first one counts"


class Kept(Variant):
    """Running values by `keep`: (mean and variance before, those of the batch, batches) -> new."""

    def __init__(self, keep, **settings):
        super().__init__(running=Running(**settings))
        self.keep = keep

    def observed(self, state, x):
        if not x.size:
            return state
        mean, var, batches = state
        new_mean, new_var = self.statistics(x)
        return *self.keep((mean, var), (new_mean, new_var), batches), batches + 1


def mix(old, new, share=0.1):
    return old + share * (new - old)


def wrong(running_variance, **others):
    return {**others, "running_variance": running_variance, "running_values": False}


# name -> (how they are kept, what the card says otherwise than of a sound variant)
MISTAKES = {
    "never updated": (
        lambda old, new, batches: old,
        wrong("it never changes", new_weight="they never change", momentum=UNKNOWN),
    ),
    "the mean alone is updated": (
        lambda old, new, batches: (mix(old[0], new[0]), old[1]),
        wrong("it never changes"),
    ),
    "the variance alone is updated": (
        lambda old, new, batches: (old[0], mix(old[1], new[1])),
        wrong(
            "unbiased, by a rule of its own: share 0.1",
            new_weight="the mean never changes",
            momentum=UNKNOWN,
        ),
    ),
    "the first batch alone": (
        lambda old, new, batches: old if batches else (mix(old[0], new[0]), mix(old[1], new[1])),
        wrong(FROZEN, new_weight=FROZEN, momentum=UNKNOWN),
    ),
    "standard deviations": (
        lambda old, new, batches: (mix(old[0], new[0]), mix(old[1], np.sqrt(new[1]))),
        wrong("no rule fits: it is no average of variances", start="mean 0, variance not known"),
    ),
    "the variance with another share": (
        lambda old, new, batches: (mix(old[0], new[0]), mix(old[1], new[1], 0.01)),
        wrong("unbiased, by a rule of its own: share 0.01"),
    ),
    "the variance with half the share": (
        lambda old, new, batches: (mix(old[0], new[0]), mix(old[1], new[1], 0.05)),
        wrong("unbiased, by a rule of its own: share 0.05"),
    ),
    "the variance begins otherwise": (
        lambda old, new, batches: (
            mix(old[0], new[0]),
            mix(old[1], new[1], 0.1 if batches else 1),
        ),
        wrong(
            "unbiased, by a rule of its own: share 0.1, the first batch alone",
            start="mean 0, variance: the first batch alone",
        ),
    ),
    "the mean begins otherwise": (
        lambda old, new, batches: (
            mix(old[0], new[0], 0.1 if batches else 1),
            mix(old[1], new[1]),
        ),
        wrong(
            "unbiased, by a rule of its own: share 0.1",
            start="the first batch alone, variance 1",
        ),
    ),
    "what was there is lost": (
        lambda old, new, batches: (0.1 * new[0], 0.9 + 0.1 * new[1]),
        wrong("no rule fits: of the old value it keeps 0, not 0.9"),
    ),
    "shares that change": (
        lambda old, new, batches: tuple(
            mix(a, b, 0.1 + 0.05 * batches) for a, b in zip(old, new, strict=True)
        ),
        {
            "new_weight": "no rule fits: its shares are 0.1, 0.15, 0.2",
            "momentum": UNKNOWN,
            "running_values": False,
        },
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_follows_no_rule_fails_and_is_named(name):
    keep, said = MISTAKES[name]
    found = card(Kept(keep))
    assert differences(found, sound()) == said
    words = [said[k] for k in ("new_weight", "running_variance") if k in said]
    (note,) = {f.note for f in found.of("running_values")}
    assert any(word in note for word in words)
    with pytest.raises(AssertionError, match="running_values in float64: "):
        found.require("all")


def test_the_start_of_a_variance_with_a_share_of_its_own_is_by_that_share():
    found = card(
        Kept(lambda old, new, _: (mix(old[0], new[0]), mix(old[1], new[1], 0.02)), var=3.0)
    )
    assert found.conventions["start"] == "mean 0, variance 3"


@pytest.mark.parametrize(
    ("momentum", "means"), [(0, "share of the new batch"), (1, "share of the old value")]
)
def test_values_that_are_declared_not_to_change_may_stay(momentum, means):
    """A momentum of 0 is that; one of 1 is, where it is the share of the old value."""
    found = card(Kept(lambda old, new, _: old, mean=0.5, var=2.0), momentum=momentum)
    assert found.failed == []
    assert all(f.holds for f in found.of("running_values"))
    answers = {k: found.conventions[k] for k in ("new_weight", "momentum", "start")}
    assert answers == {"new_weight": 0, "momentum": means, "start": "mean 0.5, variance 2"}


def test_a_momentum_of_0_excuses_no_half_of_it():
    found = card(Kept(lambda old, new, _: (mix(old[0], new[0]), old[1])), momentum=0)
    assert found.failed == ["running_values"]


def without(*names, on=lambda x: True):
    class Silent(Variant):
        def step(self, x, *rest):
            result = super().step(x, *rest)
            return result._replace(**dict.fromkeys(names)) if on(x) else result

    return Silent()


def test_what_is_not_reported_is_not_asked():
    found = card(without("mean", "var"))
    assert found.failed == []
    assert {f.holds for f in found.of("running_values")} == {None}
    assert {f.note for f in found.of("running_values")} == {"not reported"}
    words = {found.conventions[k] for k in ("new_weight", "start", "running_variance")}
    assert words == {"not reported"}


def test_one_of_the_two_alone_is_said_to_be():
    found = card(without("var"))
    assert found.failed == []
    said = "not asked: the mean alone is reported"
    words = {found.conventions[k] for k in ("new_weight", "start", "running_variance")}
    assert words | {f.note for f in found.of("running_values")} == {said}


def test_a_momentum_beside_a_plain_average_means_nothing():
    found = card(Variant(running=Running(None, "first batch")))
    said = "no rule fits: it is 0.1, the new batch has 1 / batches"
    assert found.conventions["momentum"] == said
    assert found.failed == []


def test_values_that_are_not_reported_for_maps_are_asked_for_in_vectors():
    silent = card(without("mean", "var", on=lambda x: x.ndim > 2))
    assert differences(silent, sound()) == {}


def test_m_by_the_number_of_examples_is_a_rule():
    class Examples(Variant):
        def statistics(self, x):
            mean, var = super().statistics(x)
            m, n = x.size // x.shape[1], len(x)
            return mean, var * (m - 1) / m * n / (n - 1) if n > 1 else var

    found = card(Examples())
    said = {"running_variance": "unbiased, by the number of examples"}
    assert differences(found, sound()) == said
    assert all(f.holds for f in found.of("running_values"))


# ---- Where digits are too few to say that there is no rule ---------------------------------------


def in_short(dtype, share):
    class Short(Variant):
        def observed(self, state, x):
            mean, var, batches = super().observed(state, x)
            return mean.astype(dtype), var.astype(dtype), batches

    return Short(running=Running(share))


@pytest.mark.parametrize(
    ("dtype", "share"), [("float16", 0.1), ("float16", 0.01), ("float32", 1e-5)], ids=str
)
def test_right_values_of_few_digits_are_not_held_to_follow_none(dtype, share):
    found = card(in_short(dtype, share), dtypes=[dtype], momentum=share)
    assert found.failed == []
    assert "too few digits" in found.of("running_values")[0].note


def test_a_small_share_in_float32_is_found():
    found = card(in_short("float32", 1e-3), dtypes=["float32"], momentum=1e-3)
    assert found.conventions["new_weight"] == 1e-3
    assert found.of("running_values")[0].holds


# ---- Steps after the first -----------------------------------------------------------------------


def test_later_steps_are_not_asked_of_what_trains_by_running_values():
    found = card(TrainsByRunningValues())
    assert {f.holds for f in found.of("later_steps")} == {None}
    assert {f.note for f in found.of("later_steps")} == {"training uses running values"}
