"""The card: what was found of one implementation, to read, to keep and to test against."""

import json
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

from bnkit.conformance.asked import PROBES, QUESTIONS
from bnkit.conformance.findings import Finding


class Card(NamedTuple):
    """Conventions, which are a choice, and findings, which are not. Prints as a table."""

    name: str
    conventions: dict[str, Any]
    findings: tuple[Finding, ...]
    made: dict[str, str] = {}  # noqa: RUF012, a NamedTuple's default, never changed
    """With what and when: versions by package, "day", "platform"."""

    def of(self, probe: str, dtype: str | None = None) -> list[Finding]:
        """The findings of a probe, in one dtype or in all."""
        return [f for f in self.findings if f.probe == probe and dtype in (None, f.dtype)]

    @property
    def failed(self) -> list[str]:
        """Probes that did not hold, each once, in the order in which they were asked."""
        return list(dict.fromkeys(f.probe for f in self.findings if f.holds is False))

    # ---- As a test ----

    def require(self, *probes: str, **wanted: Any) -> None:
        """Raise AssertionError unless the probes named hold and the conventions are as wanted.

        ``card.require("forward", "dx", running_variance="biased", large_mean=1000)``: probes by
        name hold within their own limit, or, with a number, up to so many spacings in every dtype
        examined; conventions equal their value (numbers to three digits). ``card.require("all")``
        asks for every probe that gave an answer. Raises ValueError for a name that there is not,
        or another bound.
        """
        known = [*QUESTIONS, *PROBES]
        if unknown := [n for n in (*probes, *wanted) if n not in known and n != "all"]:
            allowed = f"conventions are {', '.join(QUESTIONS)}; probes {', '.join(PROBES)}"
            raise ValueError(f"{', '.join(unknown)}: neither a convention nor a probe. {allowed}.")
        for name, bound in wanted.items():
            number_or_true = isinstance(bound, Real) and bound is not False and bound >= 0
            if name in PROBES and not number_or_true:
                allowed = "a number of spacings from 0 on, or True, is allowed"
                raise ValueError(f"{name}={bound!r}: {allowed}.")
        misses = [self._miss(name) for name in (self.failed if "all" in probes else probes)]
        misses += [self._miss(name, value) for name, value in wanted.items()]
        if misses := [miss for miss in misses if miss]:
            raise AssertionError(f"{self.name}: " + "; ".join(misses))

    def _miss(self, name: str, wanted: Any = None) -> str:
        if name in QUESTIONS:
            value = self.conventions.get(name)
            return "" if _equal(value, wanted) else f"{name} is {value!r}, wanted was {wanted!r}"
        answers = self.of(name)
        if not [f for f in answers if f.holds is not None]:
            why = answers[0].note if answers else "not asked in these dtypes"
            return f"{name} has no answer ({why})"
        if wanted is None or wanted is True:
            return "; ".join(_said(f) for f in answers if f.holds is False)
        if unmeasured := [f for f in answers if f.spacings is None and f.holds is not None]:
            return _said(unmeasured[0], "it is yes or no; require it by its name, or with True")
        over = [f for f in answers if f.spacings is not None and not f.spacings <= wanted]
        return "; ".join(_said(f, f"{wanted:g} at most were wanted") for f in over)

    # ---- As text ----

    def __str__(self) -> str:
        lines = [self.name, *(f"  {k} {v}" for k, v in self.made.items())]
        lines += ["", "Conventions"]
        width = max(map(len, self.conventions), default=0)
        lines += [f"  {k:{width}}  {shown(v)}" for k, v in self.conventions.items()]
        lines += ["", "Defects: error / error of the reference, in spacings; ! is beyond rounding"]
        lines += _table([["", *self.dtypes], *self._rows()])
        notes = [f"  {', '.join(where)}: {note}" for note, where in self._notes().items()]
        return "\n".join([*lines, *(["", "Notes", *notes] if notes else [])])

    def _notes(self) -> dict[str, list[str]]:
        """Each note once, with the probes, and the dtypes, that it is about."""
        about = {}
        for f in self.findings:
            if f.note:
                about.setdefault((f.note, f.probe), []).append(f.dtype)
        notes = {}
        for (note, probe), dtypes in about.items():
            all_of_them = len(dtypes) == len(self.of(probe))
            notes.setdefault(note, []).append(
                probe if all_of_them else f"{probe} ({', '.join(dtypes)})"
            )
        return notes

    @property
    def dtypes(self) -> list[str]:
        """The dtypes in which anything was asked, in that order."""
        return list(dict.fromkeys(f.dtype for f in self.findings))

    def _rows(self) -> list[list[str]]:
        rows = {}
        for f in self.findings:
            rows.setdefault(f.probe, {})[f.dtype] = in_short(f)
        return [[name, *(row.get(d, "") for d in self.dtypes)] for name, row in rows.items()]

    # ---- As data ----

    def json(self) -> str:
        """The card as JSON, which ``from_json`` reads; infinity is written as the word."""
        findings = [
            {k: _plain(v) for k, v in f._asdict().items() if v not in (None, "") or k == "holds"}
            for f in self.findings
        ]
        content = {"name": self.name, "made": self.made, "conventions": self.conventions}
        return json.dumps(content | {"findings": findings}, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> Card:
    """A card from what ``Card.json`` wrote. Raises ValueError for anything else."""
    try:
        content = json.loads(text)
        findings = tuple(Finding(**_read(f)) for f in content["findings"])
        card = Card(content["name"], content["conventions"], findings, content["made"])
        if why := _odd(card):
            raise TypeError(why)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"this is no card: {error!r}. Make one with examine(...).json()") from None
    return card


def _odd(card: Card) -> str:
    """What in a card is not of the kind that ``examine`` puts there; nothing if all is."""
    if not isinstance(card.name, str):
        return f"its name is {card.name!r}"
    for word, mapping in (("made", card.made), ("conventions", card.conventions)):
        if not isinstance(mapping, dict):
            return f"{word} is {mapping!r}"
    for f in card.findings:
        words = all(isinstance(word, str) for word in (f.probe, f.dtype, f.note))
        numbers = all(value is None or _is_number(value) for value in (f.spacings, f.best))
        if not (words and numbers and f.holds in (True, False, None)):
            return f"a finding is {tuple(f)!r}"
    return ""


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value >= 0


def _plain(value):
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else "infinity"
    return value


def _read(finding: Mapping) -> dict:
    return {k: math.inf if v == "infinity" else v for k, v in finding.items()}


def _equal(value, wanted) -> bool:
    if isinstance(wanted, float) and isinstance(value, (int, float)):
        return math.isclose(value, wanted, rel_tol=1e-3)
    return type(value) in (type(wanted), int, float) and value == wanted


def _table(rows) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def in_short(f: Finding) -> str:
    """A finding in a cell: "1.2 / 0.9", "yes", "no !", "-" where it was not asked."""
    value = {True: "yes", False: "no", None: "-"}[f.holds]
    if f.spacings is not None:
        value = number(f.spacings) + ("" if f.best is None else f" / {number(f.best)}")
    return f"{value} !" if f.holds is False else value


def shown(value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """An error for the eye: two digits, no more."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "not finite"
    return f"{value:.1f}" if value < 100 else f"{value:.1e}"


def _said(f: Finding, wanted: str = "") -> str:
    """A finding that is not what was wanted, in words; without a bound it was the probe's own."""
    if f.spacings is None:
        return f"{f.probe} in {f.dtype}: {wanted or f.note or 'no'}"
    found = f"{number(f.spacings)} spacings {f.note}".strip()
    return f"{f.probe} in {f.dtype}: {found}, {wanted or 'which is beyond rounding'}"
