"""The experiments of chapter 3: each against algebra or automatic differentiation."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import assert_close
from scipy.stats import wasserstein_distance
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from bnkit import whitening
from bnkit.claims import ledger
from bnkit.studies import whitening as studies


def rng():
    return np.random.default_rng(0)


def test_data_with_an_exact_spectrum():
    x = studies.correlated(200, 6, 100, rng())
    np.testing.assert_allclose(
        np.linalg.eigvalsh(whitening.covariance(x))[::-1],
        np.geomspace(1, 0.01, 6),
        rtol=1e-9,
        equal_nan=False,
    )
    assert np.abs(whitening.correlation(x) - np.eye(6)).max() > 0.2  # and not along the features


def test_images_as_rows():
    images = np.zeros((2, 4, 4))
    images[1, 0, 1] = 8
    pixels, kept = studies.varying(images)
    assert kept.tolist() == [False, True] + 14 * [False]
    assert pixels.tolist() == [[0], [8]]
    assert studies.pooled(images).tolist() == [[0, 0, 0, 0], [2, 0, 0, 0]]


def test_digits_as_rows_and_as_pictures():
    digits = studies.digits()
    assert digits.pixels.shape == (1500, digits.kept.sum())
    assert digits.one_hot.sum(1).tolist() == [1] * 1500
    assert (digits.one_hot.argmax(1) == digits.data.train_labels).all()
    shown = digits.pictures(digits.pixels)
    places = [digits.data.train_labels.tolist().index(label) for label in (0, 1, 3, 4, 5, 7)]
    assert_close(shown, digits.data.train_images[places].astype(float))
    assert digits.coarse.shape == (1500, 16)
    assert digits.bold.min() > 0


def test_accuracy_of_a_linear_model_is_that_of_least_squares():
    digits = studies.digits()
    x = np.column_stack([digits.pixels, np.ones(1500)])
    solution = np.linalg.lstsq(x, digits.one_hot, rcond=None)[0]
    test = digits.data.test_images.reshape(-1, 64)[:, digits.kept]
    expected = np.mean(
        (np.column_stack([test, np.ones(len(test))]) @ solution).argmax(1)
        == digits.data.test_labels
    )
    found = studies.descents(digits.pixels, digits.one_hot, {"ZCA": whitening.zca}, 1)["ZCA"]
    assert digits.accuracy(found, whitening.zca) == expected > 0.9


def test_a_descent_in_words():
    descent = studies.Descent(1234.4, np.array([1.0, 0.5, 0.1]), np.zeros((1, 1)))
    assert descent.told(0.5) == ("1,234", "1")
    assert descent.told(0.01) == ("1,234", "more than 2")


def test_unchanged_changes_nothing():
    x = rng().normal(size=(5, 3))
    assert_close(studies.unchanged(x)(x), x)


def test_a_refusal_is_quoted_and_a_batch_that_is_whitened_is_none():
    assert "has rank 4 and cannot be inverted" in studies.refused(rng().normal(size=(5, 6)))
    with pytest.raises(AssertionError, match=r"shape \(60, 6\) was whitened"):
        studies.refused(rng().normal(size=(60, 6)))


def test_axes_after_newton_schulz():
    x = studies.correlated(200, 6, 100, rng())
    shares, variances = studies.whitened_axes(x, (0, 30))
    assert_close(shares, np.geomspace(1, 0.01, 6) / np.geomspace(1, 0.01, 6).sum())
    assert_close(variances[0], shares)
    assert_close(variances[30], np.ones(6))
    steps = studies.iterations_to_white(x)
    whole, less = (
        studies.far_from_white(whitening.newton_schulz(x, k)(x)) for k in (steps, steps - 1)
    )
    assert whole < 1e-8 <= less


def test_the_two_forms_of_newtons_iteration_part():
    coupled, printed = studies.both_newtons(studies.digits().coarse, (3, 60))
    assert coupled[3] == pytest.approx(printed[3])
    assert coupled[60] < 1e-8
    assert not printed[60] < 1


def test_descent_is_gradient_descent():
    x, targets = rng().normal(size=(30, 3)) * (1, 2, 3), rng().normal(size=(30, 2))
    found = studies.descend(x, targets, steps=7)
    z = torch.tensor(np.column_stack([x, np.ones(30)]))
    weights = torch.zeros(4, 2, dtype=torch.double, requires_grad=True)
    curvatures = torch.linalg.eigvalsh(z.T @ z / 30)
    losses = []
    for _ in range(8):
        loss = ((z @ weights - torch.tensor(targets)) ** 2).sum() / 60
        (gradient,) = torch.autograd.grad(loss, weights)
        losses.append(loss.item())
        last = weights.detach().clone()
        weights = (
            (weights - 2 / (curvatures[0] + curvatures[-1]) * gradient).detach().requires_grad_()
        )
    best = (
        np.sum((targets - z.numpy() @ np.linalg.lstsq(z.numpy(), targets, rcond=None)[0]) ** 2) / 60
    )
    excess = (np.array(losses) - best) / (losses[0] - best)
    np.testing.assert_allclose(found.excess, excess, rtol=1e-9, equal_nan=False)
    np.testing.assert_allclose(found.weights, last.numpy(), rtol=1e-9, equal_nan=False)
    assert found.steps_to(1.0) == 0
    assert found.steps_to(0.0) is None


def test_the_bias_drifts_as_algebra_says():
    u, targets = rng().normal(size=50), rng().normal(size=50) + 2
    wrong = studies.drifting_bias(u, targets, rate=0.1, steps=20, through_mean=False)
    np.testing.assert_allclose(
        wrong.parameter, 0.1 * targets.mean() * np.arange(21), rtol=1e-9, equal_nan=False
    )
    assert np.ptp(wrong.loss) < 1e-12
    right = studies.drifting_bias(u, targets, rate=0.1, steps=20, through_mean=True)
    assert np.abs(right.parameter).max() < 1e-12


@pytest.mark.parametrize("through", [True, False])
def test_the_steps_of_bias_and_weight_are_those_of_automatic_differentiation(through):
    u, targets = rng().normal(size=50) + 0.3, rng().normal(size=50)

    def step(normalise, start):
        parameter = torch.tensor(start, dtype=torch.double, requires_grad=True)
        loss = ((normalise(parameter, torch.tensor(u)) - torch.tensor(targets)) ** 2).mean() / 2
        return start - 0.1 * torch.autograd.grad(loss, parameter)[0].item()

    frozen = (lambda x: x) if through else torch.Tensor.detach

    def centre(b, u):
        return u + b - frozen((u + b).mean())

    def standardise(w, u):
        return (w * u - frozen((w * u).mean())) / frozen((w * u).std(correction=0))

    bias = studies.drifting_bias(u, targets, 0.1, 1, through).parameter
    weight = studies.drifting_weight(u, targets, 0.1, 1, through).parameter
    np.testing.assert_allclose(bias[1], step(centre, 0.0), atol=1e-12, equal_nan=False)
    np.testing.assert_allclose(weight[1], step(standardise, 1.0), atol=1e-12, equal_nan=False)


def test_rank():
    assert studies.ranks([2, 5, 9, 10, 11, 30], 10, rng()) == [1, 4, 8, 9, 10, 10]


def test_operations_grow_as_the_cube():
    wide, narrow = (studies.operations(d, m=1) for d in (20_000, 10_000))
    powers = {name: round(np.log2(wide[name] / narrow[name])) for name in wide}
    assert powers == {"standardized": 1, "Newton–Schulz": 3, "ZCA": 3}


def test_operations_of_a_small_batch_by_hand():
    # covariance and product, 2 m d^2 each; 5 iterations of 3 products; eigenvectors, 9 d^3 + 2 d^3
    assert studies.operations(2, m=3) == {
        "standardized": 30,
        "Newton–Schulz": 48 + 240,
        "ZCA": 48 + 88,
    }


def test_the_shortest_runs_of_either_work_are_compared(monkeypatch):
    moments = iter([0, 9, 10, 12, 20, 26, 30, 33])  # eigh takes 9 and 6, the deviations 2 and 3
    monkeypatch.setattr(studies, "time", SimpleNamespace(perf_counter=lambda: next(moments)))
    assert studies.slowdown(4, 8, rng(), repeats=2) == 3


def test_sensitivity_by_hand():
    turning = np.array([[0.0, 1.0], [1.0, 0.0]])
    # the axes of diag(4, 1) turn by 1 / 3; the divided difference of 1/sqrt is (1/2 - 1) / 3, twice
    # in the matrix
    assert studies.sensitivity("pca", (4, 1), turning) == pytest.approx(
        np.sqrt(1 / 4 + 1) / 3, rel=1e-5
    )
    assert studies.sensitivity("zca", (4, 1), turning) == pytest.approx(np.sqrt(2) / 6, rel=1e-5)


def test_both_ways_to_the_derivative_against_torch():
    x = rng().normal(size=(20, 4))
    covariance, along = whitening.covariance(x), rng().normal(size=(4, 4))
    along = along + along.T

    def zca(c):
        eigenvalues, axes = torch.linalg.eigh(c)
        return axes / eigenvalues.sqrt() @ axes.T

    _, expected = torch.autograd.functional.jvp(zca, torch.tensor(covariance), torch.tensor(along))
    for way in (studies.zca_change, studies.zca_change_through_eigenvectors):
        np.testing.assert_allclose(
            way(covariance, along), expected.numpy(), atol=1e-9, equal_nan=False
        )


def test_equal_eigenvalues():
    along = np.array([[1.0, 2.0], [2.0, 5.0]])
    assert np.isnan(studies.zca_change_through_eigenvectors(np.eye(2), along)).any()
    np.testing.assert_allclose(studies.zca_change(np.eye(2), along), -along / 2, equal_nan=False)
    torch_eye = torch.eye(2, requires_grad=True)
    torch.linalg.eigh(torch_eye)[1][0, 1].backward()  # what automatic differentiation makes of it
    assert not torch.isfinite(torch_eye.grad).all()


def test_disturbance_of_a_mean():
    x = rng().normal(size=(1000, 1))
    centre = lambda batch: whitening.Whitening(batch.mean(axis=0), np.eye(1))  # noqa: E731
    found = studies.disturbance(centre, x, [10, 1000], 400, rng())
    np.testing.assert_allclose(found, x.std() / np.sqrt([10, 1000]), rtol=0.1, equal_nan=False)


def test_every_mutant_is_caught():
    x = studies.pooled(rng().normal(size=(300, 4, 4)).cumsum(axis=1).cumsum(axis=2) + 1)
    for name, mutant in studies.MUTANTS.items():
        assert studies.far_from_white(mutant(x)) > 0.01, name
    assert studies.far_from_white(whitening.zca(x)(x)) < 1e-9


def test_the_uncoupled_iteration_is_right_at_first_and_breaks_later():
    x = studies.correlated(200, 16, 100, rng())
    covariance = whitening.covariance(x)
    np.testing.assert_allclose(
        studies.newton_uncoupled(covariance, 5),
        whitening.newton_schulz(x, 5).matrix,
        rtol=1e-6,
        equal_nan=False,
    )
    assert not np.isfinite(studies.newton_uncoupled(covariance, 200)).all()


def test_whitened_inputs_move_less():
    """By other code: a network in torch, whitening by scikit-learn, distances by SciPy, one unit at
    a time; and the function itself on the same scale."""
    torch.manual_seed(0)
    parts = [
        torch.nn.Linear(64, 20),
        torch.nn.Sigmoid(),
        torch.nn.Linear(20, 20),
        torch.nn.Sigmoid(),
    ]
    body = torch.nn.Sequential(*parts, torch.nn.Linear(20, 20), torch.nn.Sigmoid())
    net = torch.nn.Sequential(body, torch.nn.Linear(20, 10))
    x, labels = load_digits(return_X_y=True)
    x, labels = torch.tensor(x / 8 - 0.6, dtype=torch.float32), torch.tensor(labels)
    optimiser, looks = torch.optim.SGD(net.parameters(), lr=1.0), []
    for step in range(150):
        if step % 10 == 0:
            with torch.no_grad():
                looks.append(body[:4](x[:500]).double().numpy())
        batch = torch.from_numpy(np.random.default_rng(step).integers(0, 1500, 50))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x[batch]), labels[batch]).backward()
        optimiser.step()

    def zca(u):
        fit = PCA(whiten=True).fit(u)
        return fit.transform(u) @ fit.components_

    def moved(maps):
        pairs = pairwise([maps(u) for u in looks])
        units = [(b[:, k], a[:, k]) for b, a in pairs for k in range(20)]
        return np.mean([wasserstein_distance(*pair) / pair[0].std() for pair in units])

    raw, white, standard = moved(np.asarray), moved(zca), moved(StandardScaler().fit_transform)
    values = {"raw": raw, "white": white, "standardized": standard}
    assert ledger.read()["C11"].broken(values) == []
    maps = {"raw": studies.unchanged, "ZCA": lambda u: whitening.zca(u, eps=1e-6)}
    ours = studies.moved_inputs(maps, seeds=1, steps=60)
    assert ours["raw"].shape == (1,)
    assert ours["ZCA"][0] < 0.5 * ours["raw"][0]
