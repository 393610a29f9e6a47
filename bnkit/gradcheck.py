"""Witnesses for gradients that need no chain rule: central differences, and the complex step.

Everything is evaluated in float64, where the difference (f(x + h) − f(x − h)) / 2h is good to about
nine digits: it leaves out h²/6 of the third derivative and rounds at about 1e-16 · f / h, and the
default h balances the two. A step into the imaginary, f(x + ih) = f(x) + ih f'(x) − …, subtracts
nothing: its imaginary part over h is the derivative to rounding (Squire and Trapp 1998), for any f
that is written in operations complex numbers have.
"""

import numpy as np


def numerical_gradient(f, x, step=6e-6):
    """The gradient of the scalar function f at x, element by element: a float64 array, as x.

    Each element is moved by h = step · max(1, abs(element)) both ways, so f is called twice per
    element: for small arrays. f gets its own float64 copy of x each time, and x stays as it is.

    Raises ValueError for a step that is not positive and finite, and where f returns NaN, infinity
    or more than one number; TypeError where x is complex or no numbers.
    """
    point = _real(x, "central differences need real numbers").astype(np.float64)
    if not 0 < step < np.inf:
        raise ValueError(f"step is {step}; it must be positive and finite, for example 6e-6.")
    gradient = np.empty_like(point)
    for index in np.ndindex(point.shape):
        ahead, behind = point.copy(), point.copy()
        h = step * max(1.0, abs(point[index]))
        ahead[index] += h
        behind[index] -= h
        width = ahead[index] - behind[index]  # what is left of 2h after rounding
        gradient[index] = (_scalar(f(ahead)) - _scalar(f(behind))) / width
    return gradient


def complex_step(f, x, step=1e-30):
    """The gradient of the scalar function f at x, exact to rounding: a float64 array, as x.

    f gets x as complex128, one element moved by ``step`` times i, and is called once per element.
    It must be analytic: built of + − · / and powers, exp, sums and means, without ``abs``,
    comparisons, ``np.var`` or anything else that takes real parts or conjugates.

    Raises TypeError where x is complex or no numbers, or f returns a real number, as it does when
    it drops the imaginary part; ValueError where f returns NaN, infinity or more than one number.
    """
    point = _real(x, "the complex step starts from real numbers").astype(np.complex128)
    gradient = np.empty(point.shape)
    for index in np.ndindex(point.shape):
        moved = point.copy()
        moved[index] += step * 1j
        value = np.asarray(f(moved))
        if value.dtype.kind != "c":
            lost = "it dropped the imaginary part, which carries the derivative."
            raise TypeError(f"f returned {value.dtype}; {lost}")
        gradient[index] = _scalar(value).imag / step
    return gradient


def relative_error(a, b):
    """How far two arrays are apart: the largest difference over the largest magnitude, or 0.0.

    Relative to the arrays, as a gradient's tiny elements carry the rounding of its large ones.
    Raises ValueError for different shapes, empty arrays, NaN and infinity: none may pass.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not a.size:
        shapes = f"the arrays have shapes {a.shape} and {b.shape}"
        raise ValueError(f"{shapes}; they must be equal and not empty.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("the arrays hold NaN or infinity, so there is no error to measure.")
    scale = max(np.abs(a).max(), np.abs(b).max())
    return float(np.abs(a - b).max() / scale) if scale else 0.0


def _real(x, otherwise):
    array = np.asarray(x)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"x is {array.dtype}; {otherwise}.")
    return array


def _scalar(value):
    if np.size(value) != 1 or not np.isfinite(value).all():
        raise ValueError(f"f returned {value!r}; it must return one finite number.")
    return np.asarray(value).reshape(()).item()
