"""The court of the mutants: it names what rejects, lets the right ones go, and is calm at NaN."""

import warnings

import numpy as np

from bnkit import mutants
from bnkit.studies import mutants as court

X = np.array([[0.0, 1.0], [2.0, 5.0], [2.0, 3.0]])
CHECKS = {
    "mean": lambda bn: np.allclose(output(bn).mean(0), 0),
    "variance": lambda bn: np.allclose(output(bn).var(0), X.var(0) / (X.var(0) + 1e-3)),
}


def output(bn):
    return bn.forward(X, np.ones(2), np.zeros(2), 1e-3)[0]


def test_it_names_the_checks_that_do_not_hold():
    assert court.rejected_by(mutants.EpsOutsideTheRoot, CHECKS) == ["variance"]
    assert court.rejected_by(mutants.StatisticsOverFeatures, CHECKS) == ["mean", "variance"]


def test_the_right_ones_go_free():
    for right in (mutants.Textbook, mutants.HalfOfTheMeanGradient):
        assert court.rejected_by(right, CHECKS) == []


def test_nan_is_rejected_and_no_reason_to_warn():
    one = np.ones((3, 1))
    checks = {"nan": lambda bn: np.isfinite(bn.forward(one, 1, 0, 0.0)[0]).all()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert court.rejected_by(mutants.StatisticsOverFeatures, checks) == ["nan"]


def test_mutants_are_found_by_the_step_they_change():
    assert court.changing("divisor") == [
        mutants.EpsOutsideTheRoot,
        mutants.DividedByTheVariance,
    ]
    assert court.changing("folded_bias", "blend") == [
        mutants.NewWeightReversed,
        mutants.FoldedWithoutTheMean,
    ]
    assert court.changing("forward") == []


def test_every_mutant_changes_a_step_and_has_a_name_in_words():
    steps = [name for name in vars(mutants.Textbook) if not name.startswith("__")]
    assert court.changing(*steps) == mutants.MUTANTS
    assert court.in_words(mutants.EpsOutsideTheRoot) == "eps outside the root"
    assert court.in_words(mutants.UnbiasedVarianceToNormalize) == "unbiased variance to normalize"
    assert len({court.in_words(mutant) for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS)
