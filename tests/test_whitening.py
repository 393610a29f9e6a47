"""The four maps: by hand, against scikit-learn and SciPy, by their properties, and on input that
has no answer.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from sklearn.decomposition import PCA

from bnkit import whitening

# Four examples, mean (1, 2), covariance [[2.5, 1.5], [1.5, 2.5]]: eigenvalues 4 along (1, 1) and 1
# along (1, -1).
BY_HAND = np.array([[3.0, 4.0], [-1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])
S = np.sqrt(0.5)
MAPS = (whitening.standardise, whitening.pca, whitening.zca, whitening.newton_schulz)


def close(actual, expected, tolerance=1e-10):
    """Equal to `tolerance`, absolutely, and finite: NaN equals nothing."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, equal_nan=False)


def batch(seed=0, m=40, d=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


# By hand


def test_by_hand():
    close(whitening.covariance(BY_HAND), [[2.5, 1.5], [1.5, 2.5]])
    close(whitening.correlation(BY_HAND), [[1, 0.6], [0.6, 1]])
    assert whitening.condition_number(BY_HAND) == pytest.approx(4)
    close(whitening.standardise(BY_HAND)(BY_HAND), (BY_HAND - (1, 2)) / np.sqrt(2.5))
    # centred: (2, 2), (-2, -2), (1, -1), (-1, 1); along the axes: 2 sqrt(2) and sqrt(2), divided by
    # 2 and by 1
    pca = whitening.pca(BY_HAND)
    close(np.abs(pca(BY_HAND)), np.abs([[2 * S, 0], [-2 * S, 0], [0, 2 * S], [0, -2 * S]]))
    close(np.abs(pca.matrix), [[S / 2, S], [S / 2, S]])
    # Cov^(-1/2) has eigenvalues 1/2 along (1, 1) and 1 along (1, -1)
    close(whitening.zca(BY_HAND).matrix, [[0.75, -0.25], [-0.25, 0.75]])
    close(whitening.zca(BY_HAND)(BY_HAND), [[1, 1], [-1, -1], [1, -1], [-1, 1]])


def test_newton_schulz_by_hand():
    # eigenvalues 4 and 1 have the shares 0.8 and 0.2; p <- (3 p - p^3 share) / 2 from 1: 1.1 and
    # 1.4; over sqrt(5)
    matrix = whitening.newton_schulz(BY_HAND, iterations=1).matrix
    eigenvalues = np.linalg.eigvalsh(matrix)
    close(eigenvalues, np.array([1.1, 1.4]) / np.sqrt(5))
    close(whitening.newton_schulz(BY_HAND, iterations=0).matrix, np.eye(2) / np.sqrt(5))


# Independent witnesses


def test_pca_is_scikit_learn_s_with_another_count():
    x = batch()
    # theirs divides by m - 1
    theirs = PCA(whiten=True, svd_solver="full").fit_transform(x) * np.sqrt(40 / 39)
    close(np.abs(whitening.pca(x)(x)), np.abs(theirs))


def test_zca_is_the_inverse_square_root():
    x = batch()
    close(whitening.zca(x).matrix, fractional_matrix_power(np.cov(x.T, bias=True), -0.5))
    regularised = fractional_matrix_power(np.cov(x.T, bias=True) + 0.3 * np.eye(5), -0.5)
    close(whitening.zca(x, eps=0.3).matrix, regularised)
    close(whitening.newton_schulz(x, iterations=30, eps=0.3).matrix, regularised)


def test_rank_and_condition_number_are_numpy_s():
    x = batch()
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))
    assert whitening.condition_number(x) == pytest.approx(eigenvalues[-1] / eigenvalues[0])
    assert whitening.rank(x) == 5
    assert whitening.rank(x[:3]) == 2
    assert whitening.condition_number(x[:3]) == np.inf


# Properties


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_what_each_map_promises(seed, d):
    x = batch(seed, m=5 * d + 3, d=d)
    tolerance = 1e-9 * whitening.condition_number(x)
    for fit in MAPS:
        close(fit(x)(x).mean(axis=0), 0, tolerance)
    close(whitening.standardise(x)(x).var(axis=0), 1, tolerance)
    close(
        whitening.correlation(whitening.standardise(x)(x)),
        np.corrcoef(x.T).reshape(d, d),
        tolerance,
    )
    for fit in (whitening.pca, whitening.zca, lambda x: whitening.newton_schulz(x, iterations=80)):
        close(whitening.covariance(fit(x)(x)), np.eye(d), tolerance)


@pytest.mark.parametrize("fit", MAPS)
def test_the_map_found_on_one_batch_serves_another(fit):
    x, other = batch(0), batch(1)
    found = fit(x)
    close(found(other), np.concatenate([found(other[:1]), found(other[1:])]))
    close(found(x), (x - x.mean(axis=0)) @ found.matrix)


@pytest.mark.parametrize("fit", MAPS)
def test_precision_and_whole_numbers(fit):
    x = batch().astype(np.float32)
    assert fit(x)(x).dtype == np.float32
    whole = np.round(10 * batch()).astype(int)
    close(fit(whole)(whole), fit(whole.astype(float))(whole.astype(float)))


def test_the_axes_come_in_order_and_with_a_fixed_sign():
    x = batch()
    axes = whitening.pca(x).matrix
    assert (
        np.diff(((x - x.mean(0)) @ (axes / np.linalg.norm(axes, axis=0))).var(axis=0)) < 0
    ).all()
    assert (axes[np.abs(axes).argmax(axis=0), range(5)] > 0).all()
    close(whitening.pca(-x).matrix, axes)  # the covariance is the same


def test_newton_schulz_converges_where_the_printed_iteration_explodes():
    rng = np.random.default_rng(0)
    x = batch(m=200, d=30) * np.geomspace(1, 1e3, 30)
    x = x[rng.permutation(len(x))]
    close(whitening.covariance(whitening.newton_schulz(x, iterations=100)(x)), np.eye(30), 1e-4)


def test_few_examples():
    few = batch(m=4)
    for fit in (whitening.pca, whitening.zca):
        eigenvalues = np.linalg.eigvalsh(whitening.covariance(fit(few, eps=0.5)(few)))
        close(np.sort(eigenvalues)[:2], 0)  # two of five axes are not spanned
        assert eigenvalues.max() < 1
    assert np.isfinite(whitening.newton_schulz(few)(few)).all()


# Input without an answer


@pytest.mark.parametrize(
    "fit", [*MAPS, whitening.covariance, whitening.rank, whitening.condition_number]
)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(5), r"two axes.*\(5,\)"),
        (np.zeros((2, 3, 4)), "two axes"),
        (np.zeros((1, 3)), "at least 2 examples"),
        (np.array([[1.0, np.nan], [2.0, 3.0], [4.0, 5.0]]), "finite"),
    ],
)
def test_no_batch(fit, x, message):
    with pytest.raises(ValueError, match=message):
        fit(x)


def test_singular():
    with pytest.raises(ValueError, match=r"4 examples with 5 features has rank 3.*eps > 0"):
        whitening.zca(batch(m=4))
    with pytest.raises(ValueError, match="rank 3"):
        whitening.pca(batch(m=4))
    with pytest.raises(ValueError, match=r"features \[1\].*all 40 examples"):
        whitening.standardise(batch() * (1, 0, 1, 1, 1))
    with pytest.raises(ValueError, match="no variance"):
        whitening.newton_schulz(np.ones((4, 2)))
    with pytest.raises(ValueError, match="iterations=-1"):
        whitening.newton_schulz(batch(), iterations=-1)


@pytest.mark.parametrize("eps", [-1e-9, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["standardise", "pca", "zca", "newton_schulz"])
def test_eps_is_what_can_be_added_to_a_variance(name, eps):
    with pytest.raises(ValueError, match=r"eps=.*finite and at least 0"):
        getattr(whitening, name)(batch(), eps=eps)


def test_a_batch_without_features_is_refused():
    for function in (whitening.pca, whitening.condition_number, whitening.standardise):
        with pytest.raises(ValueError, match=r"without features .* shape \(4, 0\)"):
            function(np.ones((4, 0)))
