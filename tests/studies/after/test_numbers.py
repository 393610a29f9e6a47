"""The numbers that chapter 10 quotes: by hand, from arrays small enough to look at; the table that
needs them all.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from bnkit.studies.after import decay, numbers

TWO = {
    "without BN": np.array([[0.2, 0.4], [0.9, 0.7]]),
    "with BN": np.array([[0.1, 0.3], [1.0, 0.8]]),
}


def test_rates():
    found = numbers.rates((0.1, 3.0), TWO, small=1, passing=0.85)
    assert found["gain_at_small_rates"] == pytest.approx(-10)
    assert (found["usable_rate_plain"], found["usable_rate_bn"]) == (0, 3)
    assert (found["best_plain"], found["best_bn"]) == pytest.approx((0.8, 0.9))


def test_interference():
    steps = np.array([0, 10, 600])
    run = SimpleNamespace(
        steps=steps,
        loss=np.array([[9.0, 8.0, 4.0], [9.0, 8.0, 6.0]]),
        cosine=np.array([[[1.0], [0.5], [0.1]], [[1.0], [0.7], [-0.3]]]),
        losses_along=np.full((2, 3, 4), 90.0),
        smoothness=np.array([[1.0, 1.0, 20.0], [1.0, 1.0, 30.0]]),
    )
    found = numbers.interference({"with BN": run}, rate=0.1)
    expected = {
        "cosine_early_bn": 0.6,
        "cosine_late_bn": -0.1,
        "linear_loss_bn": 5.0,
        "edge_bn": 2.5,
        "cliff_bn": 10.0,
    }
    assert found == pytest.approx(expected)


def test_landscape_ratios_are_geometric_means():
    def path(range_, other):
        return SimpleNamespace(
            steps=np.array([0, 20, 21]), range=range_, change=other, smoothness=other
        )

    plain = path(np.array([[[4.0]], [[1.0]], [[3.0]]]), np.ones((3, 1, 1)))
    with_bn = path(np.ones((3, 1, 1)), np.full((3, 1, 1), 0.5))
    found = numbers.landscape((0.3,), {"without BN": plain, "with BN": with_bn})
    early = {
        "rougher_range_0.3_early": 2.0,
        "rougher_change_0.3_early": 2.0,
        "rougher_smoothness_0.3_early": 2.0,
    }
    late = {
        "rougher_range_0.3_late": 3.0,
        "rougher_change_0.3_late": 2.0,
        "rougher_smoothness_0.3_late": 2.0,
    }
    assert found == pytest.approx(early | late)


def test_how_a_rate_tunes_itself():
    # squares of angles; the first is too early
    turn = np.array([[[0.04], [0.25]], [[0.01], [0.09]], [[0.01], [0.09]]])
    loss = np.array([[[9.0], [9.0]], [[0.2], [0.4]], [[0.4], [0.8]]])
    course = decay.Course(
        np.array([[[2.0], [2.0]], [[2.0], [5.0]], [[2.0], [8.0]]]), turn, turn, loss
    )
    expected = {"tuned_loss_low": 0.3, "tuned_loss_high": 0.6, "turn_ratio": 3.0, "stretched": 4.0}
    assert numbers.tuned(course, last=2) == pytest.approx(expected)


def test_depth_names_and_balance():
    assert numbers.depth({"residual, BN": np.array([[0.0, 0.0], [0.5, 0.7]])}) == pytest.approx(
        {"deep_residual_bn": 0.6}
    )
    course = SimpleNamespace(
        norm=np.concatenate([np.full((4, 3, 1), 50.0), np.full((4, 3, 1), 2.0)])
    )
    measured = np.array([[0.2], [0.3], [0.1]])  # the third setting has no decay and no prediction
    found = numbers.balance(course, measured, [0.1, 0.3], [1.0, 4.0])
    expected = {"angle_low": 1.0, "angle_high": 2.0, "length_low": 0.5, "length_high": 2.0}
    assert found == pytest.approx(expected)


def test_batches_and_company():
    by_norm = {"batch": np.array([[0.6], [0.8]]), "group": np.array([[0.7], [0.65]])}
    found = numbers.batches(by_norm, np.array([[0.5], [0.8]]))
    expected = {
        "small_batch_batch": -20.0,
        "small_batch_group": 5.0,
        "group_lead": 10.0,
        "company": -10.0,
    }
    assert found == pytest.approx(expected)
    tested = {
        name: SimpleNamespace(population=np.array([[value, value]]), batch=np.array([[0.1, 0.3]]))
        for name, value in (("BN", 0.4), ("Batch Renormalization", 0.9))
    }
    assert numbers.company((2,), tested) == pytest.approx(
        {"bn_2": 0.4, "renorm_2": 0.9, "bn_like_2": 0.2}
    )


def test_features():
    learned = {
        kind: SimpleNamespace(accuracy=np.array([[0.1], [value]]), off=np.array([[0.0], [0.2]]))
        for kind, value in (("pair", 0.9), ("weights", 0.85), ("readout", 0.8), ("all", 0.99))
    }
    expected = {
        "pair": 0.9,
        "readout": 0.8,
        "everything": 0.99,
        "pair_lead": 5.0,
        "narrow_lead": 0.0,
        "switched_off": 0.1,
    }
    assert numbers.features(learned) == pytest.approx(expected)
