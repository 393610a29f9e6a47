"""The examination: every question asked of one implementation, none able to stop the rest."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from bnkit.conformance.asked import PROBES, QUESTIONS
from bnkit.conformance.card import Card
from bnkit.conformance.conduct import WORK
from bnkit.conformance.findings import Finding
from bnkit.conformance.limit import TooSlow, Worker
from bnkit.conformance.session import Session
from bnkit.conformance.step import Function, Subject, Trouble, named

DTYPES = ("float64", "float32", "float16")


def examine(
    step: Function, infer: Function | None = None, *, name: str = "", axis: int | None = None,
    dtypes: Sequence[str] = DTYPES, momentum: float | None = None,
    bfloat16: Function | None = None, load: Callable | None = None, limit: float = 20.0,
    made: dict[str, str] | None = None,
) -> Card:  # fmt: skip
    """Ask an implementation of batch normalization everything, and return its card.

    ``step(x, gamma, beta, dy, state)`` is one training step, from NumPy to NumPy: a
    ``conformance.Step``, or anything with such fields, of which only y is needed. `infer` has the
    same face and is called with a state that `step` returned.

    `axis` is where features are, 1 or −1; found out if None. `momentum` is the number that the
    library calls so, if it has one. `bfloat16` is a step that gets float32 arrays of bfloat16
    numbers, computes in bfloat16 and returns float32. ``load(mean, var)`` makes a state of running
    values, as for weights that come from elsewhere. `limit` is in seconds for each probe: a call
    that hangs is left behind and named. `made` goes onto the card. Raises TypeError for a step that
    cannot be called, ValueError for another axis or dtype; whatever `step` does is on the card.
    """
    _check(step, infer, axis, dtypes, limit)
    subject, worker = Subject(step, infer, bfloat16), Worker()
    name, made = name or _name(step), made or {}
    try:
        dtype, why = _way_in(subject, worker, limit, axis, dtypes)
        if why:
            return Card(name, {}, (Finding("a_first_step", dtype, False, note=why),), made)
        answers = {"dtype": dtype, "momentum given": momentum, "dtypes taken": []}
        answers["ways in"] = dict.fromkeys(dtypes, subject.train)
        if bfloat16 is not None:
            answers["ways in"]["bfloat16"] = subject.in_bfloat16
        _conventions(subject, worker, limit, axis, answers)
        session = Session(answers, load)
        findings = _findings(subject, session, worker, limit, answers["dtypes taken"])
    finally:
        worker.close()
    return Card(name, {k: answers[k] for k in QUESTIONS}, tuple(findings), made)


def _check(step, infer, axis, dtypes, limit):
    for word, function in (("step", step), ("infer", infer)):
        if not callable(function) and not (word == "infer" and function is None):
            wanted = "pass a function (x, gamma, beta, dy, state) -> Step"
            raise TypeError(f"{word} is {type(function).__name__}; {wanted}.")
    if isinstance(dtypes, str):
        raise ValueError(f"dtypes is {dtypes!r}; give a list, such as [{dtypes!r}].")
    if not 0 < limit < float("inf"):
        raise ValueError(f"limit is {limit}; a number of seconds above 0 is allowed.")
    if axis not in (None, 1, -1):
        raise ValueError(f"axis is {axis!r}; 1, -1, or None to find out, are allowed.")
    if not dtypes or not set(dtypes) <= set(DTYPES):
        raise ValueError(f"dtypes are {list(dtypes)}; some of {', '.join(DTYPES)} are allowed.")


def _name(step) -> str:
    return f"{getattr(step, '__module__', '')}.{getattr(step, '__qualname__', type(step).__name__)}"


def _asked(worker, limit, ask: Callable, *arguments):
    """The answer of a question, or in words why there is none."""
    try:
        return worker.call(lambda: ask(*arguments), limit), ""
    except Trouble as trouble:
        return None, str(trouble)
    except TooSlow as slow:
        return None, f"hung: {slow}"
    except (Exception, SystemExit) as error:
        return None, f"no answer, {named(error)}"


# ---- Conventions ---------------------------------------------------------------------------------


def _way_in(subject, worker, limit, axis, dtypes) -> tuple[str, str]:
    """The most precise dtype that the subject takes; whether it takes (m, d) it then knows.

    Where no step comes back: a dtype, and why. Nothing else need be asked then.
    """
    whys = []
    for dtype in sorted(dtypes, key=DTYPES.index):
        x = np.arange(12.0).reshape(4, 3).astype(dtype)
        gamma, beta = np.ones(3, dtype), np.zeros(3, dtype)
        for subject.flat, place in itertools.product((True, False), (axis,) if axis else (1, -1)):
            subject.axis = place
            step, why = _asked(worker, limit, subject.train, x, gamma, beta)
            if step is not None:
                subject.axis = axis or 1
                return dtype, ""
            whys.append((dtype, why))
            if why.startswith("hung"):
                return whys[-1]
    return whys[0]


def _conventions(subject, worker, limit, axis, answers) -> None:
    """Put an answer to every question into `answers`."""
    for name, ask in QUESTIONS.items():
        if name == "axis" and axis is not None:
            answers["axis"] = axis
            continue
        answer, why = _asked(worker, limit, ask, subject, answers)
        answers[name] = why if answer is None else answer
        if answers["axis"] == -1:
            subject.axis = -1


# ---- Defects -------------------------------------------------------------------------------------


def _findings(subject, session, worker, limit, dtypes):
    findings = []
    for probe in PROBES.values():
        for dtype in _dtypes(probe, session, dtypes):
            finding, why = _asked(worker, limit, probe.ask, subject, session, dtype)
            findings.append(finding or Finding(probe.name, dtype, False, note=why))
            session.findings[probe.name, dtype] = findings[-1].holds
    return findings


def _dtypes(probe, session, dtypes):
    if probe.dtypes == (WORK,):
        right = [d for d in DTYPES if session.findings.get(("forward", d))]
        return [*right, session.answers["dtype"]][:1]
    return [d for d in dtypes if d in (DTYPES if probe.dtypes is None else probe.dtypes)]
