"""Back-propagation through Batch Normalization (Section 3), step by step, and a checker.

Algorithm 1 is taken apart into nine operations with one name each (``steps``), and every operation
hands a gradient back to each of its inputs (``rules``). The names of the results are those of the
arguments, so the two tables *are* the computational graph. A gradient is named after its quantity:
dvar is ∂ℓ/∂σ²_B.

Letters: m examples, d features. Everything is NumPy; ``forward`` also takes complex numbers and
torch tensors, for witnesses that differentiate the very same steps.
"""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from bnkit import gradcheck

Array = np.ndarray
PAPER_ORDER = ("dx_hat", "dvar", "dmean", "dx", "dgamma", "dbeta")  # Section 3
TOLERANCE = 1e-6  # relative; central differences in float64 come to about 1e-9

# The graph


def steps() -> dict[str, Callable]:
    """Algorithm 1 in single operations, in order: what each computes from those before."""
    return {
        "mean": lambda x: x.mean(axis=0),  #                              (d,)
        "centred": lambda x, mean: x - mean,  #                           (m, d)
        "squared": lambda centred: centred**2,  #                         (m, d)
        "var": lambda squared: squared.mean(axis=0),  #                   (d,)
        "std": lambda var, eps: (var + eps) ** 0.5,  #                    (d,)
        "inv_std": lambda std: 1 / std,  #                                (d,)
        "x_hat": lambda centred, inv_std: centred * inv_std,  #           (m, d)
        "scaled": lambda gamma, x_hat: gamma * x_hat,  #                  (m, d)
        "y": lambda scaled, beta: scaled + beta,  #                       (m, d)
    }


def rules() -> dict[tuple[str, str], Callable]:
    """For each arrow, (from, to) on the way back: what it hands over, from the gradient ``d``."""
    return {
        ("y", "beta"): lambda d: d.sum(axis=0),
        ("y", "scaled"): lambda d: d,
        ("scaled", "gamma"): lambda d, x_hat: (d * x_hat).sum(axis=0),
        ("scaled", "x_hat"): lambda d, gamma: d * gamma,
        ("x_hat", "inv_std"): lambda d, centred: (d * centred).sum(axis=0),
        ("x_hat", "centred"): lambda d, inv_std: d * inv_std,
        ("inv_std", "std"): lambda d, std: -d / std**2,
        ("std", "var"): lambda d, std: d / (2 * std),
        ("var", "squared"): lambda d, squared: np.broadcast_to(d / len(squared), squared.shape),
        ("squared", "centred"): lambda d, centred: d * 2 * centred,
        ("centred", "mean"): lambda d: -d.sum(axis=0),
        ("centred", "x"): lambda d: d,
        ("mean", "x"): lambda d, x: np.broadcast_to(d / len(x), x.shape),
    }


def forward(inputs: Mapping, held: Mapping | None = None) -> dict:
    """All quantities of the graph, from `inputs` ``x, gamma, beta, eps``; NumPy or torch.

    A quantity in `held` is taken as given instead of computed, and later steps use that value.
    """
    values = {name: inputs[name] for name in ("x", "gamma", "beta", "eps")} | dict(held or {})
    for name, step in steps().items():
        if name not in values:
            values[name] = step(*_pick(step, values))
    return values


def backward(values: Mapping, dy: Array, changed: Mapping | None = None) -> tuple[dict, dict]:
    """Walk the graph back from `dy` = ∂ℓ/∂y, with the quantities of ``forward``.

    Returns the gradient of each quantity, and what flowed along each arrow: where several arrive,
    their sum is the gradient. Rules in `changed` replace those of ``rules``: a wrong walk.
    """
    gradients, flows = {"y": dy}, {}
    for (start, end), rule in (rules() | dict(changed or {})).items():
        flows[start, end] = rule(gradients[start], *_pick(rule, values, skip=1))
        gradients[end] = gradients.get(end, 0) + flows[start, end]
    return gradients, flows


def _pick(function: Callable, values: Mapping, skip: int = 0) -> list:
    """The values that the arguments of `function` name."""
    code = function.__code__
    return [values[name] for name in code.co_varnames[skip : code.co_argcount]]


# Witnesses


def example(batch: int, features: int, rng: np.random.Generator) -> dict[str, Array]:
    """A batch that hides no mistake: ``x, gamma, beta, dy``.

    Means are far from 0, spreads and gammas differ, the first gamma is negative, and nothing about
    dy is special. Shapes: x and dy (batch, features), gamma and beta (features,).
    """
    centres, spreads = rng.uniform(2, 4, features), rng.uniform(0.5, 2, features)
    sign = (-1.0) ** np.arange(1, features + 1)
    return {
        "x": sign * centres + spreads * rng.normal(size=(batch, features)),
        "gamma": sign * rng.uniform(0.5, 2, features),
        "beta": rng.uniform(0.5, 2, features),
        "dy": rng.normal(size=(batch, features)),
    }


def nudge(values: Mapping, dy: Array, name: str, held: Sequence[str] = ()) -> Array:
    """The gradient of ℓ = Σ dy·y for the quantity `name`, shaped like it, by central differences.

    Each of its numbers is moved a little up and a little down, and everything after it is computed
    anew, except for quantities in `held`, which stay as they are.
    """
    value, stay = values[name], {other: values[other] for other in held}
    # a step fits the spread of what it moves: over the batch, or that of x for what only shifts
    of_itself = value.std(axis=0) if value.ndim == 2 else np.abs(value)
    size = values["std"] if name in ("mean", "beta") else of_itself
    step = 1e-5 * np.broadcast_to(size, value.shape)
    gradient = np.empty_like(value)
    for i in np.ndindex(value.shape):
        losses = []
        for sign in (1, -1):
            moved = value.copy()
            moved[i] += sign * step[i]
            losses.append(np.sum(dy * forward(values, stay | {name: moved})["y"]))
        gradient[i] = (losses[0] - losses[1]) / (2 * step[i])
    return gradient


WITNESSES = ("PyTorch", "complex numbers")
"""Who differentiates without a table of rules: a differentiator, a step into the imaginary."""


def exact(values: Mapping, dy: Array, name: str, held: Sequence[str] = ()) -> Array:
    """``nudge`` without its error: the quantity goes imaginary, ``gradcheck.complex_step``."""
    stay = {other: values[other] for other in held}
    loss = lambda moved: np.sum(dy * forward(values, stay | {name: moved})["y"])  # noqa: E731 - of one quantity
    return gradcheck.complex_step(loss, values[name])


def differentiated(values: Mapping, dy: Array, by: str) -> dict[str, Array]:
    """The gradient of every quantity, from one of ``WITNESSES``, which know none of our rules."""
    names = [name for name in values if name != "eps"]
    if by == "complex numbers":
        return {name: exact(values, dy, name) for name in names}
    import torch  # here, as it takes longer than the rest of a chapter

    learned = ("x", "gamma", "beta")
    leaves = {name: torch.tensor(values[name], requires_grad=True) for name in learned}
    recorded = forward(leaves | {"eps": values["eps"]})
    loss = (recorded["y"] * torch.tensor(dy)).sum()
    gradients = torch.autograd.grad(loss, [recorded[name] for name in names])
    return dict(zip(names, map(np.asarray, gradients), strict=True))


def fused(batch: Mapping, eps: float, by: str) -> tuple[Array, Array, Array, Array]:
    """y and the gradients of x, gamma and beta, from BN as one expression that is not ours.

    PyTorch's own operation, with a derivative by others; or Algorithm 1 in complex numbers.
    """
    x, gamma, beta, dy = (batch[name] for name in ("x", "gamma", "beta", "dy"))
    if by == "complex numbers":
        y = lambda x, gamma, beta: gamma * (x - x.mean(0)) / _root(x, eps) + beta  # noqa: E731 - the one line
        of_x = gradcheck.complex_step(lambda x: np.sum(dy * y(x, gamma, beta)), x)
        of_gamma = gradcheck.complex_step(lambda gamma: np.sum(dy * y(x, gamma, beta)), gamma)
        of_beta = gradcheck.complex_step(lambda beta: np.sum(dy * y(x, gamma, beta)), beta)
        return y(x, gamma, beta), of_x, of_gamma, of_beta
    import torch

    inputs = [torch.tensor(values, requires_grad=True) for values in (x, gamma, beta)]
    y = torch.nn.functional.batch_norm(inputs[0], None, None, *inputs[1:], training=True, eps=eps)
    gradients = torch.autograd.grad(y, inputs, grad_outputs=torch.tensor(dy))
    return y.detach().numpy(), *map(np.asarray, gradients)


def _root(x: Array, eps: float, less: int = 0) -> Array:
    """√(σ² + ε) for real and complex x, with the sum of squares divided by m - `less`; (d,)."""
    return (((x - x.mean(0)) ** 2).sum(0) / (len(x) - less) + eps) ** 0.5


def with_unbiased_variance(x: Array, dy: Array, eps: float) -> tuple[Array, Array, Array]:
    """Normalised by m - 1 in place of m: x̂, √(s² + ε), and the exact gradient of Σ dy·x̂ for x."""
    of_x = gradcheck.complex_step(lambda x: np.sum(dy * (x - x.mean(0)) / _root(x, eps, less=1)), x)
    return (x - x.mean(0)) / _root(x, eps, less=1), _root(x, eps, less=1), of_x


def relative_error(ours: Array, theirs: Array) -> float:
    """Largest difference of two arrays of one shape, as a share of the largest number in either."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes {ours.shape} and {theirs.shape} cannot be compared")
    largest = np.abs(ours - theirs).max()
    return float(largest and largest / max(np.abs(ours).max(), np.abs(theirs).max()))


def six_equations(x: Array, gamma: Array, beta: Array, dy: Array, eps: float) -> dict[str, Array]:
    """The gradients as Section 3 of the paper prints them, in its order, before any simplification.

    Shapes: x and dy (m, d); gamma and beta (d,).
    """
    m = len(x)
    mean, var = x.mean(axis=0), x.var(axis=0)
    x_hat = (x - mean) / np.sqrt(var + eps)

    dx_hat = dy * gamma
    dvar = np.sum(dx_hat * (x - mean), axis=0) * -0.5 * (var + eps) ** -1.5
    dmean = (
        np.sum(dx_hat * (-1 / np.sqrt(var + eps)), axis=0)
        + dvar * np.sum(-2 * (x - mean), axis=0) / m
    )
    dx = dx_hat * (1 / np.sqrt(var + eps)) + dvar * 2 * (x - mean) / m + dmean / m
    dgamma = np.sum(dy * x_hat, axis=0)
    dbeta = np.sum(dy, axis=0)
    on_the_way = {"dx_hat": dx_hat, "dvar": dvar, "dmean": dmean}
    return on_the_way | {"dx": dx, "dgamma": dgamma, "dbeta": dbeta}


# What the gradient through the statistics does


class Parts(NamedTuple):
    """An upstream gradient g (m, d) as three parts at right angles, by feature (ε = 0)."""

    mean: Array
    """Along 1 = (1, …, 1): what would move all examples alike."""
    slope: Array
    """Along x̂: what would stretch the batch."""
    rest: Array
    """What is left. The input gradient is γ/σ times this."""


def parts(x: Array, dy: Array) -> Parts:
    """Split `dy` into what normalising `x` removes, twice, and what it passes on; all (m, d)."""
    x_hat = (x - x.mean(axis=0)) / x.std(axis=0)
    mean = np.broadcast_to(dy.mean(axis=0), dy.shape)
    slope = x_hat * (dy * x_hat).mean(axis=0)
    return Parts(mean, slope, dy - mean - slope)


_NO_VARIANCE = {("squared", "centred"): lambda d, centred: 0 * centred}
_NO_MEAN = {("mean", "x"): lambda d, x: 0 * x}
# Each a wrong walk: the rules that are replaced. Names say what the mistake is.
MUTANTS = {
    "path through the variance missing": _NO_VARIANCE,
    "path through the mean missing": _NO_MEAN,
    "statistics taken for constants": _NO_VARIANCE | _NO_MEAN,
    "γ missing in dx̂": {("scaled", "x_hat"): lambda d: d},
    "σ² for σ in the direct path": {("x_hat", "centred"): lambda d, inv_std: d * inv_std**2},
    "ε missing in dσ²": {("std", "var"): lambda d, var: d / (2 * var**0.5)},
    "dγ from x − μ": {("scaled", "gamma"): lambda d, centred: (d * centred).sum(axis=0)},
}


# The checker

WALK_ORDER = (
    *("dscaled", "dbeta", "dx_hat", "dgamma", "dinv_std", "dstd"),
    *("dvar", "dsquared", "dcentred", "dmean", "dx"),
)
OTHER_NAMES = {  # as they are called in other courses
    "dgammax": "dscaled",
    "dxhat": "dx_hat",
    "divar": "dinv_std",
    "dsqrtvar": "dstd",
    "dsq": "dsquared",
    "dxmu": "dcentred",
    "dmu": "dmean",
}
HINTS = {
    "dscaled": "y = scaled + beta, and a sum hands the gradient on as it is.",
    "dbeta": "beta is added to every example: sum dy over the batch.",
    "dx_hat": "x_hat enters y multiplied by gamma.",
    "dgamma": "gamma multiplies the x_hat of every example: sum dy * x_hat over the batch.",
    "dinv_std": "inv_std multiplies every centred value of its feature: sum dx_hat * centred over the batch.",
    "dstd": "The derivative of 1 / std is -1 / std**2.",
    "dvar": "Three factors: the sum of dx_hat * (x - mean), -1/2, and (var + eps) ** (-3/2).",
    "dsquared": "var is an average over the batch, so each square gets the m-th part of dvar.",
    "dcentred": "Two arrows arrive here, from x_hat and from the squares: add them.",
    "dmean": "mean is subtracted from every example: minus the sum over the batch of what arrives at x - mean.",
    "dx": "Three ways lead from x to the loss: directly through x_hat, through var and through mean. Add all three.",
}


def mistakes(
    dy, x, y, centred, var, std, dx_hat, dvar, dcentred, dmean, m, **_
) -> dict[str, dict[str, Array]]:
    """For each gradient, wrong values that one easily arrives at, by the hint for them.

    Takes all quantities of the graph and all gradients by their names.
    """
    direct, of_centred = dx_hat / std, (dy * centred).sum(axis=0)
    constants = "the paths through var and through mean are missing"
    return {
        "dx_hat": {"This is dy: gamma is missing.": dy},
        "dgamma": {
            "This sums dy * (x - mean): gamma multiplies x_hat, so divide by the standard "
            "deviation.": of_centred,
            "This sums dy * x: gamma multiplies x_hat, not x.": (dy * x).sum(axis=0),
            "This sums dy * y: gamma multiplies x_hat, not y.": (dy * y).sum(axis=0),
        },
        "dvar": {
            "The power of var + eps is -3/2, not -1/2.": dvar * std**2,
            "eps is missing: the power is of var + eps.": dvar * std**3 / var**1.5,
            "This has x where x - mean should be.": (dx_hat * x).sum(axis=0) / (-2 * std**3),
        },
        "dcentred": {
            "The arrow from the squares is missing, the path through the variance.": direct,
            "The arrow from x_hat is missing, the direct path.": dcentred - direct,
        },
        "dmean": {"The mean is no constant: it moves when x moves.": 0 * dmean},
        "dx": {
            f"This takes the statistics for constants: {constants}.": direct,
            "The path through the variance is missing.": direct + dmean / m,
            "The path through the mean is missing.": dcentred,
            "The mean is an average: each example gets the m-th part of dmean.": dcentred + dmean,
        },
    }


class Verdict(NamedTuple):
    """What ``check`` found; true if every gradient is right."""

    wrong: str | None
    """Name of the first wrong gradient on the way back, or None."""
    message: str
    """A sentence or two: what is wrong, and where to look."""
    errors: dict[str, float]
    """Largest relative error of each returned gradient, on the way back; inf: wrong shape."""

    def __bool__(self) -> bool:
        return self.wrong is None

    def _repr_markdown_(self) -> str:
        words = {True: "right", False: "**wrong**"}
        rows = [f"| `{name}` | {words[size < TOLERANCE]} |" for name, size in self.errors.items()]
        return "\n".join([self.message, "", "| gradient | verdict |", "| --- | --- |", *rows])


def check(function: Callable) -> Verdict:
    """Check the reader's backward pass and name the first gradient that is wrong, with a hint.

    `function(x, gamma, beta, dy, eps)` returns a dictionary with any of the gradients in
    ``WALK_ORDER``, at least dx, dgamma and dbeta; or the six of the paper in ``PAPER_ORDER``; or
    ``(dx, dgamma, dbeta)``. It is called once, with a batch of five examples and three features.

    Raises TypeError or ValueError for another answer, or where the function changes its arguments.
    """
    batch, eps = example(5, 3, np.random.default_rng(0)), 0.1  # an eps that cannot be overlooked
    given = {name: array.copy() for name, array in batch.items()}
    answer = _named(function(given["x"], given["gamma"], given["beta"], given["dy"], eps))
    if spoilt := [name for name in batch if not np.array_equal(batch[name], given[name])]:
        remedy = "work on a copy, or without += and the like"
        raise ValueError(f"the function changed its argument {', '.join(spoilt)}: {remedy}")

    values = forward(batch | {"eps": eps})
    right, _ = backward(values, batch["dy"])
    gradients = {f"d{name}": gradient for name, gradient in right.items()}
    given_back = [name for name in WALK_ORDER if name in answer]
    answer = {name: _squeezed(answer[name], gradients[name]) for name in given_back}
    errors = {name: _error(answer[name], gradients[name]) for name in answer}
    wrong = next((name for name, error in errors.items() if not error < TOLERANCE), None)
    if wrong is None:
        return Verdict(None, f"All {len(errors)} gradients are right.", errors)
    hint = _hint(wrong, answer[wrong], gradients[wrong], values | gradients | {"m": 5})
    if wrong == "dx" and not {"dvar", "dmean"} & set(answer):
        hint += " To see where it begins, return dx_hat, dvar and dmean as well."
    return Verdict(wrong, f"`{wrong}` is the first gradient that is wrong. {hint}", errors)


def _named(answer: object) -> dict[str, Array]:
    """The reader's gradients under our names."""
    tuples = f"a tuple ({', '.join(PAPER_ORDER)}), or (dx, dgamma, dbeta)"
    allowed = f"a dictionary with dx, dgamma, dbeta and others, or {tuples}"
    if isinstance(answer, (tuple, list)) and len(answer) in (3, 6):
        answer = dict(zip(PAPER_ORDER[-len(answer) :], answer, strict=True))
    if not isinstance(answer, Mapping):
        size = f" of {len(answer)}" if isinstance(answer, (tuple, list)) else ""
        raise TypeError(f"the function returned a {type(answer).__name__}{size}; return {allowed}")
    answer = {OTHER_NAMES.get(name, name): value for name, value in answer.items()}
    for name in answer:
        if name not in WALK_ORDER:
            close = get_close_matches(str(name), WALK_ORDER, 1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{name!r} is none of the gradients {', '.join(WALK_ORDER)}{meant}")
    if missing := [name for name in ("dx", "dgamma", "dbeta") if name not in answer]:
        raise ValueError(f"{', '.join(missing)} missing; return {allowed}")
    return answer


def _squeezed(answer: object, expected: Array) -> Array:
    """As an array; without the axis of length 1 that ``keepdims=True`` leaves."""
    answer = np.asarray(answer, dtype=float)
    return answer[0] if answer.shape == (1, *expected.shape) else answer


def _error(answer: Array, expected: Array) -> float:
    comparable = answer.shape == expected.shape and np.isfinite(answer).all()
    return relative_error(answer, expected) if comparable else np.inf


def _hint(name: str, answer: Array, expected: Array, known: Mapping) -> str:
    """The most telling thing to say about a wrong gradient."""
    if answer.shape != expected.shape:
        kind = "one number per example"
        if expected.ndim == 1:
            kind = "one number per feature: sum over the batch, axis 0"
        return f"It has shape {answer.shape} and should have {expected.shape}, {kind}."
    if not np.isfinite(answer).all():
        return "It holds NaN or infinity."
    for hint, wrong in mistakes(**known).get(name, {}).items():
        if _error(answer, wrong) < TOLERANCE:
            return hint
    factor = np.sum(answer * expected) / np.sum(expected**2)
    if factor and _error(answer, factor * expected) < TOLERANCE:
        m = known["m"]
        sums = {-1: "the sign", m: "a sum where an average belongs"}
        sums[1 / m] = "an average where a sum belongs"
        why = next((f": {what}" for ratio, what in sums.items() if np.isclose(factor, ratio)), "")
        return f"It is {factor:g} times what it should be{why}. {HINTS[name]}"
    return HINTS[name]
