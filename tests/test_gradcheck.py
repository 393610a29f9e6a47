"""Central differences against derivatives known by heart."""

import numpy as np
import pytest
from conftest import assert_close

from bnkit.gradcheck import complex_step, numerical_gradient, relative_error


def test_gradients_known_by_heart():
    x = np.random.default_rng(0).normal(size=(2, 3, 2))
    # h²/6 of the third derivative
    assert_close(numerical_gradient(lambda x: np.sum(x**3), x), 3 * x**2, tolerance=1e-9)
    assert_close(numerical_gradient(lambda x: np.sum(np.sin(x)), x), np.cos(x), tolerance=1e-9)
    assert_close(
        numerical_gradient(lambda x: np.prod(x), np.array([2.0, 3.0, 4.0])),
        np.array([12.0, 8.0, 6.0]),
        1e-9,
    )


def test_a_quadratic_has_no_third_derivative_and_large_steps_are_exact():
    matrix = np.random.default_rng(1).normal(size=(4, 4))
    x = np.array([1.0, -2.0, 3.0, 0.0])
    assert_close(numerical_gradient(lambda x: x @ matrix @ x, x, step=0.5), (matrix + matrix.T) @ x)


def test_the_step_grows_with_the_element():
    """At 1e6 a step of 6e-6 would be lost in rounding: f = x² has 1e12 there, with a spacing of
    1e-4."""
    assert_close(
        numerical_gradient(lambda x: np.sum(x**2), np.array([1e6])), np.array([2e6]), tolerance=1e-9
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_narrow_inputs_are_widened_and_left_alone(dtype):
    x = np.array([[1, 2], [3, -4]], dtype)
    before = x.tobytes()

    def f(point):
        assert point.dtype == np.float64
        value = np.sum(point**2)
        point[:] = 0  # f may do with its copy what it likes
        return value

    gradient = numerical_gradient(f, x)
    assert gradient.dtype == np.float64
    assert_close(gradient, 2 * x.astype(np.float64), tolerance=1e-9)
    assert x.tobytes() == before


def test_a_scalar_and_an_empty_array_keep_their_shape():
    assert_close(numerical_gradient(lambda x: float(x) ** 2, 3.0), np.array(6.0), tolerance=1e-9)
    assert numerical_gradient(lambda x: 0.0, np.ones((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: numerical_gradient(lambda x: x, np.ones(2)), ValueError, "one finite number"),
        (lambda: numerical_gradient(lambda x: np.nan, np.ones(2)), ValueError, "one finite number"),
        (lambda: numerical_gradient(np.sum, np.ones(2), step=0.0), ValueError, "step is 0.0"),
        (lambda: numerical_gradient(np.sum, np.ones(2), step=np.nan), ValueError, "step is nan"),
        (lambda: numerical_gradient(np.sum, np.ones(2) + 0j), TypeError, "x is complex128"),
        (lambda: relative_error(np.ones(2), np.ones(3)), ValueError, r"\(2,\) and \(3,\)"),
        (lambda: relative_error([], []), ValueError, "not empty"),
        (lambda: relative_error([np.nan], [np.nan]), ValueError, "NaN or infinity"),
        (lambda: relative_error([np.inf], [np.inf]), ValueError, "NaN or infinity"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_relative_error_is_of_the_largest_magnitude():
    assert relative_error([100.0, 1.0], [100.0, 2.0]) == 0.01
    assert relative_error([100.0, 2.0], [100.0, 1.0]) == 0.01
    assert relative_error([1.0, 2.0], [1.0, 2.0]) == 0.0
    assert relative_error([0.0], [0.0]) == 0.0
    assert relative_error([1e-300], [-1e-300]) == 2.0


# ---- The comparison of the tests is a test subject too -------------------------------------------


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ([np.nan], [np.nan]),
        ([np.inf], [np.inf]),
        ([1.0], [1.0 + 1e-9]),
        ([1e-8], [1.1e-8]),
        ([[1.0]], [1.0]),
        ([], []),
        ([1e-9], [0.0]),
    ],
    ids=["NaN", "infinity", "a little off", "small and off", "shape", "empty", "not zero"],
)
def test_the_comparison_raises(actual, expected):
    with pytest.raises(AssertionError):
        assert_close(np.array(actual), np.array(expected))


# The complex step


def test_the_complex_step_is_exact_where_differences_are_not():
    """d/dx exp(x)/sqrt(sin³x + cos³x) at 1.5, the example of Squire and Trapp, here against the
    derivative by hand."""
    x = 1.5
    f = lambda x: np.exp(x) / np.sqrt(np.sin(x) ** 3 + np.cos(x) ** 3)  # noqa: E731
    s, c = np.sin(x), np.cos(x)
    by_hand = f(x) * (1 - 1.5 * (s**2 * c - c**2 * s) / (s**3 + c**3))
    assert complex_step(f, np.array(x)) == pytest.approx(by_hand, rel=1e-15)
    assert numerical_gradient(f, np.array(x)) != pytest.approx(by_hand, rel=1e-13)


def test_the_complex_step_moves_one_element_at_a_time():
    x = np.array([[1.0, 2.0], [3.0, -4.0]])
    assert complex_step(lambda x: np.sum(x**3) + x[0, 0] * x[1, 1], x).tolist() == [
        [3 - 4, 12],
        [27, 48 + 1],
    ]
    assert x.tolist() == [[1.0, 2.0], [3.0, -4.0]]


@pytest.mark.parametrize(
    ("f", "x", "error", "words"),
    [
        (lambda x: np.abs(x).sum(), np.ones(2), TypeError, "dropped the imaginary part"),
        (lambda x: x, np.ones(2), ValueError, "one finite number"),
        (lambda x: np.sum(x) * np.inf, np.ones(2), ValueError, "one finite number"),
        (np.sum, np.ones(2) * 1j, TypeError, "starts from real numbers"),
    ],
)
def test_what_the_complex_step_refuses(f, x, error, words):
    with np.errstate(invalid="ignore"), pytest.raises(error, match=words):
        complex_step(f, x)
