"""Chapter 2: each ruler against a case worked out elsewhere, and what must not move when nothing
does.
"""

import numpy as np
import pytest
from conftest import assert_close
from scipy import stats

from bnkit.networks.digits import Digits
from bnkit.studies import shift

# Small changes


def test_a_common_factor_multiplies_from_layer_to_layer():
    found = shift.respond(
        "relu", 0.01, where="scale", norm=False, depth=6, width=20, batch=9, seeds=2
    )
    assert_close(found, np.tile(1.01 ** np.arange(1, 7) - 1, (2, 1)))


def test_behind_bn_a_common_factor_does_nothing():
    found = shift.respond(
        "relu", 0.01, where="scale", norm=True, depth=6, width=20, batch=9, seeds=2, eps=0.0
    )
    assert found.max() < 1e-12


def test_a_turn_of_the_first_layer_has_its_relative_size():
    found = shift.respond(
        "sigmoid", 1e-4, where="first", norm=False, depth=5, width=200, batch=100, seeds=2
    )
    # a random direction, seen through 100 random inputs
    assert_close(found[:, 0], [1e-4, 1e-4], tolerance=0.05)
    assert (np.diff(found) < 0).all()


def test_growth_of_a_change():
    """Doubling per layer, with the part near rounding and the part that is not small any more left
    out."""
    rising = np.concatenate([[5e-4], 1e-3 * 2.0 ** np.arange(5), [0.5, 0.5]])
    falling = np.concatenate([[1e-9], 1e-10 * 0.5 ** np.arange(6), [1e-16] * 3])
    assert_close(shift.growth(rising[None]), [4.0])
    assert_close(shift.growth(falling[None]), [0.25])


def test_an_unknown_change_is_refused():
    with pytest.raises(ValueError, match="where='last'; it is 'first' or 'scale'"):
        shift.respond("relu", 0.01, where="last", norm=True, depth=2)


# Training


def test_the_map_has_its_axes_in_order_and_names_divergence():
    found = shift.trainable("relu", False, (1e-3, 1.4), (1e-4, 0.1, 1e4), seeds=2, steps=60)
    assert found.shape == (2, 3, 2)
    assert (found[1, 1] > 0.7).all()
    assert (found[0, :2] < 0.3).all()
    assert np.isnan(found[1, 2]).all()


# Covariate shift


def test_rotation_turns_counter_clockwise_about_the_centre():
    images = np.random.default_rng(0).integers(0, 17, (3, 8, 8)).astype(np.uint8)
    assert_close(shift.rotate(images, 0), images.astype(float))
    assert_close(shift.rotate(images, 90), np.rot90(images, 1, (1, 2)).astype(float))


def test_the_seven_is_turned_once_for_each_angle():
    pictures = shift.turned_seven((0, 90))
    digits = Digits.load()
    seven = digits.data.test_images[digits.test_labels.tolist().index(7)].astype(float)
    assert_close(pictures, np.stack([seven, np.rot90(seven)]))


def test_turned_digits_are_not_recognised():
    found = shift.covariate_shift(True, (0, 90), seeds=1, steps=60)
    assert found.accuracy.shape == found.hidden_shift.shape == (2, 1)
    assert found.accuracy[0, 0] > 0.85 > 0.4 > found.accuracy[1, 0]
    assert_close(found.hidden_shift[0], [0.0])
    assert found.input_shift[0] == 0 < found.input_shift[1]


def test_company_matters_only_in_training_mode():
    found = shift.company(1, steps=60)
    assert found["population"] > found["shuffled"] > found["by class"] + 0.2


# Internal covariate shift


def test_distance_is_the_wasserstein_distance():
    generator = np.random.default_rng(0)
    before, after = generator.normal(0, 2, (1, 50, 3)), generator.normal(1, 3, (1, 50, 3))
    expected = np.mean(
        [stats.wasserstein_distance(before[0, :, k], after[0, :, k]) for k in range(3)]
    )
    assert_close(shift.distance(before, after), [expected / before[0].std(0).mean()])


def test_distance_of_a_displacement_is_its_length():
    values = np.random.default_rng(0).normal(5, 2, (2, 40, 3))
    shuffled = np.random.default_rng(1).permutation(values, axis=1)
    assert_close(shift.distance(values, shuffled), [0.0, 0.0])
    unit = values.std(1, keepdims=True).mean(2, keepdims=True)
    assert_close(shift.distance(values, shuffled - 0.5 * unit), [0.5, 0.5])


def test_the_noise_is_santurkars():
    disturb = shift.noisy(np.random.default_rng(0))
    scale, offset = disturb(0, (40, 500, 50))
    means, sigmas = offset.mean(1), scale.mean(1)  # (40, 50): one for each unit
    assert means.min() < -0.48
    assert means.max() > 0.48
    assert np.abs(means).max() < 0.52
    assert 0.97 < sigmas.min() < 1.01
    assert 1.24 < sigmas.max() < 1.28
    assert abs(scale.std(1).mean() - 0.1) < 0.002  # N(sigma, 0.1)
    assert abs(offset.std(1).mean() - 0.2 / 12**0.5) < 0.002  # U(mean − 0.1, mean + 0.1)
    again, _ = disturb(0, (40, 500, 50))
    assert np.abs(again.mean(1) - sigmas).mean() > 0.05  # another draw at the next step
    assert scale.dtype == offset.dtype == np.float32


def test_following():
    plain, with_bn, noisy = (
        shift.follow(variant, (0.3, 1.0), seeds=1, steps=40, every=20, width=20)
        for variant in shift.VARIANTS
    )
    assert with_bn.steps.tolist() == [0, 20, 40]
    assert with_bn.distribution.shape == (2, 2, 1)
    assert with_bn.gradient.shape == with_bn.cosine.shape == with_bn.accuracy.shape == (3, 2, 1)
    assert all(np.isfinite(values).all() for values in with_bn)
    assert (plain.distribution > 2 * with_bn.distribution).all()
    assert (noisy.distribution.mean() > 1.5 * with_bn.distribution.mean()).all()
    drift, interference, last = shift.over_rates({"plain": plain, "BN": with_bn})
    assert_close(drift["BN"], with_bn.distribution.mean(0)[:, 0])
    assert_close(interference["plain"], plain.gradient.mean(0)[:, 0])
    assert_close(last["BN"], with_bn.accuracy[2, :, 0])
    # equal weights at the start, and no noise when tested
    assert_close(noisy.accuracy[0], with_bn.accuracy[0])
