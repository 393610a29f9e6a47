"""Chapter 5: the graph against witnesses that know no chain rule, and the checker against planted
mistakes.
"""

import numpy as np
import pytest
import torch

from bnkit import reference
from bnkit.plots import backprop as plots
from bnkit.studies import backprop as studies

close = {"rtol": 1e-10, "atol": 1e-12, "equal_nan": False}


def batch_and_values(batch=5, features=3, eps=0.1, seed=0):
    batch = studies.example(batch, features, np.random.default_rng(seed))
    return batch, studies.forward(batch | {"eps": eps})


# ---- The graph


def test_hand_worked():
    """x = (1, 3): mean 2, var 1; with eps = 3 the root is 2 and x_hat = (-1/2, 1/2). gamma = 4, dy
    = (1, 0).

    dx_hat = (4, 0), dvar = 4·(-1)·(-1/2)/8 = 1/4, dcentred = (4/2 + 2·(-1)·(1/4)/2, 0 +
    2·1·(1/4)/2) = (7/4, 1/4), dmean = -2, dx = (7/4 - 1, 1/4 - 1) = (3/4, -3/4).
    """
    inputs = {
        "x": np.array([[1.0], [3.0]]),
        "gamma": np.array([4.0]),
        "beta": np.array([5.0]),
        "eps": 3.0,
    }
    values = studies.forward(inputs)
    assert values["y"].ravel().tolist() == [3, 7]
    dy = np.array([[1.0], [0.0]])
    gradients, flows = studies.backward(values, dy)
    expected = {
        "scaled": [1, 0],
        "beta": [1],
        "x_hat": [4, 0],
        "gamma": [-0.5],
        "inv_std": [-4],
        "std": [1],
        "var": [0.25],
        "squared": [0.125, 0.125],
        "centred": [1.75, 0.25],
        "mean": [-2],
        "x": [0.75, -0.75],
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(gradients[name].ravel(), numbers, **close)
    np.testing.assert_allclose(flows["x_hat", "centred"].ravel(), [2, 0], **close)
    np.testing.assert_allclose(flows["squared", "centred"].ravel(), [-0.25, 0.25], **close)


def test_the_tables_are_one_graph():
    """Each arrow of the way back is an input of a step on the way forward, and each input but eps
    has its arrow."""
    inputs = {
        (later, earlier)
        for later, step in studies.steps().items()
        for earlier in step.__code__.co_varnames[: step.__code__.co_argcount]
    }
    assert set(studies.rules()) == {
        (later, earlier) for later, earlier in inputs if earlier != "eps"
    }
    assert {f"d{name}" for pair in studies.rules() for name in pair} == {*studies.WALK_ORDER, "dy"}


@pytest.mark.parametrize(
    ("m", "d", "eps"), [(2, 1, 0.1), (3, 1, 1e-3), (5, 3, 0), (5, 3, 1e-3), (7, 2, 10)]
)
def test_every_gradient_against_autograd_and_differences(m, d, eps):
    batch, values = batch_and_values(m, d, eps)
    gradients, _ = studies.backward(values, batch["dy"])
    tensors = {
        name: torch.tensor(batch[name], requires_grad=True) for name in ("x", "gamma", "beta")
    }
    recorded = studies.forward(tensors | {"eps": eps})
    for name in studies.steps():
        recorded[name].retain_grad()
    (recorded["y"] * torch.tensor(batch["dy"])).sum().backward()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(values[name], recorded[name].detach(), **close)
        np.testing.assert_allclose(gradient, recorded[name].grad, **close)
        if m > 2:  # with two the input gradient nearly vanishes, and the spread of the squares does
            assert (
                studies.relative_error(gradient, studies.nudge(values, batch["dy"], name))
                < studies.TOLERANCE
            ), name


@pytest.mark.parametrize("eps", [0, 1e-3, 10])
def test_six_equations_and_the_reference(eps):
    batch, values = batch_and_values(eps=eps)
    gradients, _ = studies.backward(values, batch["dy"])
    for name, gradient in studies.six_equations(**batch, eps=eps).items():
        np.testing.assert_allclose(gradient, gradients[name[1:]], **close)
    y, cache = reference.forward(batch["x"], batch["gamma"], batch["beta"], eps)
    np.testing.assert_allclose(values["y"], y, **close)
    for name, gradient in zip(
        ("x", "gamma", "beta"), reference.backward(batch["dy"], cache), strict=True
    ):
        np.testing.assert_allclose(gradient, gradients[name], **close)


def test_what_is_held_stays():
    batch, values = batch_and_values()
    direct = studies.nudge(values, batch["dy"], "centred", held=["var"])
    _, flows = studies.backward(values, batch["dy"])
    assert studies.relative_error(direct, flows["x_hat", "centred"]) < studies.TOLERANCE
    assert studies.relative_error(direct, studies.nudge(values, batch["dy"], "centred")) > 0.01


@pytest.mark.parametrize("by", studies.WITNESSES)
def test_witnesses_are_exact_and_know_the_whole_graph(by):
    """Both against the walk; that the walk is right, central differences have said above."""
    batch, values = batch_and_values(eps=1e-3)
    walked, _ = studies.backward(values, batch["dy"])
    found = studies.differentiated(values, batch["dy"], by)
    assert set(found) == set(walked)
    for name, gradient in walked.items():
        assert studies.relative_error(gradient, found[name]) < 1e-12, name
    y, *gradients = studies.fused(batch, 1e-3, by)
    np.testing.assert_allclose(y, values["y"], **close)
    for name, gradient in zip(("x", "gamma", "beta"), gradients, strict=True):
        np.testing.assert_allclose(gradient, walked[name], **close)


@pytest.mark.parametrize("wrong", studies.MUTANTS)
def test_witnesses_reject_each_mutant(wrong):
    batch, values = batch_and_values()
    changed, _ = studies.backward(values, batch["dy"], studies.MUTANTS[wrong])
    exact = {name: studies.exact(values, batch["dy"], name) for name in ("x", "gamma", "beta")}
    assert max(studies.relative_error(changed[name], each) for name, each in exact.items()) > 1e-3


def test_held_statistics_are_constants_to_torch_too():
    batch, values = batch_and_values()
    x = torch.tensor(batch["x"], requires_grad=True)
    statistics = x.mean(0).detach(), (x.var(0, unbiased=False) + 0.1).detach()
    y = torch.tensor(batch["gamma"]) * (x - statistics[0]) / statistics[1].sqrt()
    (expected,) = torch.autograd.grad(y, x, grad_outputs=torch.tensor(batch["dy"]))
    found = studies.exact(values, batch["dy"], "x", held=["mean", "inv_std"])
    np.testing.assert_allclose(found, expected, **close)


def test_with_unbiased_variance_against_torch():
    batch, _ = batch_and_values()
    x = torch.tensor(batch["x"], requires_grad=True)
    s = (x.var(0, unbiased=True) + 0.1).sqrt()
    x_hat = (x - x.mean(0)) / s
    (expected,) = torch.autograd.grad(x_hat, x, grad_outputs=torch.tensor(batch["dy"]))
    for ours, theirs in zip(
        studies.with_unbiased_variance(batch["x"], batch["dy"], 0.1),
        (x_hat, s, expected),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs.detach(), **close)


def test_parts_are_a_regression():
    batch, _ = batch_and_values(6, 2)
    found = studies.parts(batch["x"], batch["dy"])
    for k in range(2):
        design = np.column_stack([np.ones(6), batch["x"][:, k]])
        solution, *_ = np.linalg.lstsq(design, batch["dy"][:, k])
        np.testing.assert_allclose(
            found.rest[:, k], batch["dy"][:, k] - design @ solution, rtol=1e-9, equal_nan=False
        )
    np.testing.assert_allclose(found.mean + found.slope + found.rest, batch["dy"], **close)


def test_relative_error():
    assert studies.relative_error([1, 4], [1, 5]) == pytest.approx(0.2)
    assert studies.relative_error([0.0], [0.0]) == 0
    assert not studies.relative_error([np.nan, 1], [1, 1]) < studies.TOLERANCE
    with pytest.raises(ValueError, match="shapes"):
        studies.relative_error([1, 2], [[1, 2]])


@pytest.mark.parametrize("name", studies.MUTANTS)
def test_each_mutant_is_wrong(name):
    batch, values = batch_and_values()
    wrong, _ = studies.backward(values, batch["dy"], studies.MUTANTS[name])
    assert any(
        studies.relative_error(wrong[of], studies.nudge(values, batch["dy"], of)) > 1e-3
        for of in ("x", "gamma", "beta")
    )


def test_the_figure_has_a_box_for_each_quantity():
    assert set(plots.BOXES) == {name for pair in studies.rules() for name in pair}


def test_every_bar_says_its_value():
    drawing = plots.ways({"directly": np.array([0.0, 18]), "in all": np.array([-4.5, 1])})
    words = [[text.get_text() for text in axes.texts] for axes in drawing.axes]
    assert words == [["0", "18"], ["−4.5", "1"]]


# ---- The checker


def walk(changed=None, names=studies.WALK_ORDER):
    """A reader's function: the walk with rules replaced, returning these gradients."""

    def function(x, gamma, beta, dy, eps):
        values = studies.forward({"x": x, "gamma": gamma, "beta": beta, "eps": eps})
        gradients, _ = studies.backward(values, dy, changed)
        return {name: gradients[name[1:]] for name in names}

    return function


def six(**changed):
    """A reader's function: the six equations, some replaced by functions of ``(right, x, gamma,
    beta, dy, eps)``."""

    def function(x, gamma, beta, dy, eps):
        found = studies.six_equations(x, gamma, beta, dy, eps)
        return found | {
            name: wrong(found, x, gamma, beta, dy, eps) for name, wrong in changed.items()
        }

    return function


def three(x, gamma, beta, dy, eps):
    _, cache = reference.forward(x, gamma, beta, eps)
    return reference.backward(dy, cache)


@pytest.mark.parametrize(
    "solution", [walk(), six(), three, lambda *batch: tuple(six()(*batch).values())]
)
def test_right_ones_pass(solution):
    verdict = studies.check(solution)
    assert verdict
    assert verdict.wrong is None
    assert verdict.message == f"All {len(verdict.errors)} gradients are right."
    assert "wrong" not in verdict._repr_markdown_()


@pytest.mark.parametrize("arrow", studies.rules())
@pytest.mark.parametrize("factor", [1.0001, -1, 0])
def test_names_the_end_of_a_wrong_arrow(arrow, factor):
    right = studies.rules()[arrow]
    names = right.__code__.co_varnames[: right.__code__.co_argcount]
    scope = {"right": right, "factor": factor}
    wrong = eval(f"lambda {', '.join(names)}: factor * right({', '.join(names)})", scope)
    verdict = studies.check(walk({arrow: wrong}))
    assert not verdict
    assert verdict.wrong == f"d{arrow[1]}"
    assert verdict.message.startswith(f"`d{arrow[1]}` is the first")
    assert verdict.errors[verdict.wrong] > 10 * studies.TOLERANCE
    assert "**wrong**" in verdict._repr_markdown_()


def middle(x, eps):
    return x - x.mean(axis=0), np.sqrt(x.var(axis=0) + eps)


MISTAKES = {  # name: (planted in, gradient that must be named, words of the hint, the wrong value)
    "no gamma": ("dx_hat", "gamma is missing", lambda f, x, g, b, dy, e: dy),
    "not summed": (
        "dbeta",
        "one number per feature: sum over the batch",
        lambda f, x, g, b, dy, e: dy,
    ),
    "averaged": (
        "dbeta",
        "0.2 times what it should be: an average where",
        lambda f, x, g, b, dy, e: dy.mean(axis=0),
    ),
    "gamma of centred": (
        "dgamma",
        "x_hat, so divide",
        lambda f, x, g, b, dy, e: (dy * (x - x.mean(0))).sum(0),
    ),
    "gamma of x": ("dgamma", "not x.", lambda f, x, g, b, dy, e: (dy * x).sum(0)),
    "power": (
        *("dvar", "-3/2, not -1/2"),
        lambda f, x, g, b, dy, e: (
            (f["dx_hat"] * (x - x.mean(0))).sum(0) * -0.5 * (x.var(0) + e) ** -0.5
        ),
    ),
    "no eps": (
        *("dvar", "eps is missing"),
        lambda f, x, g, b, dy, e: (f["dx_hat"] * (x - x.mean(0))).sum(0) * -0.5 * x.var(0) ** -1.5,
    ),
    "not centred": (
        *("dvar", "x - mean should be"),
        lambda f, x, g, b, dy, e: (f["dx_hat"] * x).sum(0) * -0.5 * (x.var(0) + e) ** -1.5,
    ),
    "sign": ("dvar", "-1 times what it should be: the sign", lambda f, *_: -f["dvar"]),
    "constant mean": ("dmean", "no constant", lambda f, *_: 0 * f["dmean"]),
    "summed mean": ("dmean", "0.2 times", lambda f, *_: f["dmean"] / 5),
    "nan": ("dx", "NaN", lambda f, *_: f["dx"] * np.nan),
    "constants": (
        "dx",
        "statistics for constants",
        lambda f, x, g, b, dy, e: f["dx_hat"] / middle(x, e)[1],
    ),
    "no variance": (
        *("dx", "through the variance is missing"),
        lambda f, x, g, b, dy, e: f["dx_hat"] / middle(x, e)[1] + f["dmean"] / 5,
    ),
    "no mean": ("dx", "through the mean is missing", lambda f, *_: f["dx"] - f["dmean"] / 5),
    "whole mean": ("dx", "the m-th part of dmean", lambda f, *_: f["dx"] + f["dmean"] * 4 / 5),
    "anything": ("dx", "Three ways lead", lambda f, x, *_: f["dx"] + x),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_names_the_mistake(mistake):
    planted, words, wrong = MISTAKES[mistake]
    verdict = studies.check(six(**{planted: wrong}))
    assert verdict.wrong == planted
    assert words in verdict.message


def test_a_mistake_that_runs_on_is_named_where_it_began():
    """dvar too large by a factor, and dx computed from it, so wrong as well."""

    def attempt(x, gamma, beta, dy, eps):
        right = studies.six_equations(x, gamma, beta, dy, eps)
        dx = right["dx"] + right["dvar"] * 2 * (x - x.mean(axis=0)) / len(x)
        return right | {"dvar": 2 * right["dvar"], "dx": dx}

    verdict = studies.check(attempt)
    assert verdict.wrong == "dvar"
    assert "2 times" in verdict.message
    assert verdict.errors["dx"] > studies.TOLERANCE


def test_without_intermediates_it_asks_for_them():
    def attempt(x, gamma, beta, dy, eps):
        dx, dgamma, dbeta = three(x, gamma, beta, dy, eps)
        return dx + x, dgamma, dbeta

    assert "return dx_hat, dvar and dmean" in studies.check(attempt).message


def test_names_from_elsewhere_and_kept_dimensions():
    def attempt(*batch):
        names = ("dxhat", "dsigma", "dmu", "dx", "dgamma", "dbeta")
        found = dict(zip(names, six()(*batch).values(), strict=True))
        del found["dsigma"]
        return found | {"dmu": found["dmu"][None], "dbeta": found["dbeta"].tolist()}

    assert list(studies.check(attempt).errors) == ["dbeta", "dx_hat", "dgamma", "dmean", "dx"]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (None, TypeError, "returned a NoneType; return a dictionary"),
        ((1, 2), TypeError, "tuple of 2"),
        ({"dx": 1, "dgamma": 1}, ValueError, "dbeta missing"),
        ({"dvarr": 1}, ValueError, "did you mean 'dvar'"),
    ],
)
def test_refuses_what_is_no_answer(answer, error, words):
    with pytest.raises(error, match=words):
        studies.check(lambda *_: answer)


def test_refuses_a_function_that_changes_its_arguments():
    def attempt(x, gamma, beta, dy, eps):
        found = three(x, gamma, beta, dy, eps)
        x -= x.mean(axis=0)
        return found

    with pytest.raises(ValueError, match="changed its argument x"):
        studies.check(attempt)
