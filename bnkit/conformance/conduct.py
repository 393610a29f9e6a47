"""How a step behaves: questions of yes and no, asked in the most precise dtype that is right.

What may differ by rounding is compared in spacings, what may not bit by bit.
"""

import numpy as np

from bnkit.conformance.findings import LIMIT, Finding, Probe, into
from bnkit.conformance.questions import refused
from bnkit.conformance.session import batch
from bnkit.conformance.step import Step, Trouble, spacings

WORK = "work"  # in place of a dtype: the most precise one in which y is right, or that is taken
PROBES: dict[str, Probe] = {}
probe = into(PROBES)
FIELDS = ("y", "dx", "dgamma", "dbeta", "mean", "var")


def same(one, other) -> list[str]:
    """Names of the results in which two steps differ, bit by bit."""
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in FIELDS}
    return [n for n, (a, b) in pairs.items() if a is not None and not _alike(a, b)]


def _alike(a, b):
    return b is not None and np.array_equal(a, b, equal_nan=True)


def near(one, other, dtype) -> list[str]:
    """Names of the results in which two steps differ by more than rounding."""
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in FIELDS}
    return [
        name
        for name, (a, b) in pairs.items()
        if a is not None and not (b is not None and spacings(a, b, dtype) <= LIMIT)
    ]


def verdict(name, dtype, differ, what) -> Finding:
    note = f"{what}: {', '.join(differ)}" if differ else ""
    return Finding(name, dtype, not differ, note=note)


# ---- The call itself -----------------------------------------------------------------------------


@probe(WORK)
def deterministic(subject, session, dtype):
    """The same step twice in a row gives the same bits."""
    arguments = batch(dtype, 24, 5)
    differ = same(subject.train(*arguments), subject.train(*arguments))
    return verdict("deterministic", dtype, differ, "differ from call to call")


@probe(WORK)
def no_hidden_state(subject, session, dtype):
    """A step from state None gives the same after another step was made."""
    arguments = batch(dtype, 24, 5)
    first = subject.train(*arguments)
    subject.train(*batch(dtype, 24, 5, mean=9, seed=1))
    differ = same(first, subject.train(*arguments))
    if differ and session.findings.get(("deterministic", dtype)) is False:
        return Finding("no_hidden_state", dtype, None, note="not asked: not deterministic")
    return verdict("no_hidden_state", dtype, differ, "changed by another step")


@probe(WORK)
def arguments_kept(subject, session, dtype):
    """No call of the whole examination changes the arrays it is given."""
    subject.train(*batch(dtype, 24, 5))
    return verdict("arguments_kept", dtype, sorted(subject.mutated), "were changed")


@probe()
def dtype_kept(subject, session, dtype):
    """y comes back in the dtype of x."""
    y_dtype = str(subject.train(*batch(dtype, 24, 5)).y.dtype)
    note = "" if y_dtype == dtype else f"y is {y_dtype}"
    return Finding("dtype_kept", dtype, not note, note=note)


@probe(WORK)
def any_layout(subject, session, dtype):
    """A batch that lies otherwise in memory (transposed, reversed, every second) is the same."""
    x, gamma, beta, dy = batch(dtype, 24, 5)
    step = subject.train(x, gamma, beta, dy)
    differ = set()
    for lay in LAYOUTS.values():
        differ |= set(near(step, subject.train(lay(x), gamma, beta, lay(dy)), dtype))
    return verdict("any_layout", dtype, sorted(differ), "depend on the layout")


def _every_second(x):
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), 77, x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


LAYOUTS = {
    "transposed": np.asfortranarray,
    "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "every second": _every_second,
}


# ---- Who sees whom -------------------------------------------------------------------------------


@probe(WORK)
def order_of_batch(subject, session, dtype):
    """Examples in another order give the same results in that order; 103, no multiple of a block."""
    x, gamma, beta, dy = batch(dtype, 103, 5)
    order = np.random.default_rng(0).permutation(103)
    step = subject.train(x, gamma, beta, dy)
    other = subject.train(x[order], gamma, beta, dy[order])
    step = step._replace(y=step.y[order], dx=None if step.dx is None else step.dx[order])
    return verdict("order_of_batch", dtype, near(step, other, dtype), "depend on the order")


@probe(WORK)
def nan_stays(subject, session, dtype):
    """NaN in one channel, and infinity, leave the others as they were, running values included."""
    x, gamma, beta, dy = batch(dtype, 24, 5)
    clean, others, differ = subject.train(x, gamma, beta, dy), [0, 2, 3, 4], set()
    for spoiler in (np.nan, np.inf):
        spoilt = x.copy()
        spoilt[7, 1] = spoiler
        try:
            step = subject.train(spoilt, gamma, beta, dy)
        except Trouble as trouble:  # nothing is spoilt by what is refused
            return Finding("nan_stays", dtype, True, note=refused(trouble))
        kept = [_only(each, others) for each in (clean, step)]
        differ |= set(near(*kept, dtype))
    return verdict("nan_stays", dtype, sorted(differ), "spoilt in other channels")


def _only(step, channels):
    values = {name: getattr(step, name) for name in FIELDS}
    return step._replace(**{
        name: None if v is None else v[..., channels] for name, v in values.items()
    })  # fmt: skip


@probe(WORK)
def inference_alone(subject, session, dtype):
    """At inference an example's y is the same whoever stands beside it."""
    if not subject.infers:
        return Finding("inference_alone", dtype, None, note="no function for inference was given")
    if session.answers.get("inference_uses") == "the batch":
        return Finding("inference_alone", dtype, None, note="inference uses the batch at hand")
    x, gamma, beta, _ = batch(dtype, 8, 5)
    crowd = np.concatenate([x[:1], 100 * x[1:] + 50])
    states = [subject.train(*batch(dtype, 24, 5)).state for _ in range(2)]
    alone = subject.infer(x[:1], gamma, beta, states[0])
    beside = subject.infer(crowd, gamma, beta, states[1])
    differ = near(Step(alone.y), Step(beside.y[:1]), dtype)
    return verdict("inference_alone", dtype, differ, "depend on the neighbours")


@probe(WORK)
def inference_learns_nothing(subject, session, dtype):
    """Inference leaves the running values as they were."""
    name = "inference_learns_nothing"
    if not subject.infers:
        return Finding(name, dtype, None, note="no function for inference was given")
    x, gamma, beta, dy = batch(dtype, 24, 5)
    state = subject.train(x, gamma, beta, dy).state
    first = subject.infer(x, gamma, beta, state, dy)
    later = subject.infer(x + 7, gamma, beta, state, dy)
    differ = same(first, subject.infer(x, gamma, beta, state, dy))
    if later.state is not None:  # what it hands on is what it was given
        differ += same(first, subject.infer(x, gamma, beta, later.state, dy))
    return verdict(name, dtype, list(dict.fromkeys(differ)), "changed by inference")
