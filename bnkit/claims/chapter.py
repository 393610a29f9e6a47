"""A chapter's part of the ledger: it hands over what it measured, and closes with a table of both.

::

    note = claims.of("06-inference", p)
    note.measured("C27", off_gradient=deviation)  # refused unless the ledger's relation holds
    note.verdicts()  # the closing table: what the note said, what was measured

A measurement is stored in the executed notebook under the name ``c27_off_gradient``: other pages
quote it from there, and the press holds it to its relation once more before anything is published.
"""

import math
from collections.abc import Mapping
from string import Formatter

from bnkit.claims import ledger
from bnkit.claims.ledger import Claim, LedgerError, sentences
from bnkit.page import prose
from bnkit.page.parameters import Parameters


class Part:
    """The claims of one chapter, and what it has measured for them so far."""

    def __init__(self, chapter: str, claims: Mapping[str, Claim], changed: tuple[str, ...]):
        self._chapter, self._claims, self._changed = chapter, dict(claims), changed
        self._values: dict[str, dict[str, float]] = {}

    def measured(self, claim: str, **values: float) -> None:
        """Hold the values measured for a claim to the ledger's relations; show and store them.

        A claim without executable evidence takes no values: its reason is shown.

        Raises LedgerError if the ledger asks for other values, AssertionError if a relation does
        not hold. With other parameters than the chapter's own the page says that it does not hold,
        and goes on: that is a finding, too.
        """
        entry = self._entry(claim, values)
        values = {key: v.item() if hasattr(v, "item") else v for key, v in values.items()}
        if strange := {key: value for key, value in values.items() if not _is_finite(value)}:
            raise LedgerError(f"{claim}: what was measured must be finite numbers, not {strange}")
        broken = entry.broken(values)
        if broken and not self._changed:
            raise AssertionError("\n".join(broken))
        for key, value in values.items():
            prose.glue(entry.name(key), value)
        self._values[claim] = values
        held = f" **does not hold** with {', '.join(self._changed)} changed" if broken else ""
        told = f"{entry.badge}{held}: {self._evidence(entry) or entry.why}."
        if broken:
            prose.report(told)
        else:
            prose.keep(f"Evidence for {claim}", told)

    def verdicts(self) -> None:
        """Show the closing table: what the note said, what is the case, what was measured.

        Raises LedgerError if a claim of the chapter was left out.
        """
        if missing := [name for name in self._claims if name not in self._values]:
            raise LedgerError(f"{self._chapter} has measured nothing for {', '.join(missing)}")
        claims = self._claims.values()
        rows = [(claim.badge, claim.statement, self._answer(claim)) for claim in claims]
        prose.table(("claim", "the note said", "we measured"), rows)

    def _answer(self, claim: Claim) -> str:
        values = self._values[claim.id]
        return sentences(claim.correction, claim.says(lambda key, spec: format(values[key], spec)))

    def _evidence(self, claim: Claim) -> str:
        formats = {key: spec for _, key, spec, _ in Formatter().parse(claim.finding) if key}
        parts = []
        for key, demanded in claim.measured.items():
            value = format(self._values[claim.id][key], formats.get(key, ".4g"))
            parts.append(f"`{key}` = {value} (`{demanded.text}`)")
        return "; ".join(parts)

    def _entry(self, claim: str, values: Mapping[str, float]) -> Claim:
        if claim not in self._claims:
            known = ", ".join(self._claims)
            raise LedgerError(f"{claim} is no claim of {self._chapter}; its claims are {known}")
        entry = self._claims[claim]
        if set(values) != set(entry.measured):
            wanted, given = ", ".join(entry.measured) or "no values", ", ".join(values) or "none"
            problem = f"the ledger asks for {wanted}; the chapter measured {given}"
            raise LedgerError(f"{claim}: {problem}")
        return entry


def of(chapter: str, parameters: Parameters | None = None) -> Part:
    """The part of the ledger that a chapter, for example "06-inference", answers for.

    `parameters` are its checked ones. Raises LedgerError if it answers for none.
    """
    entries = {name: claim for name, claim in ledger.read().items() if claim.chapter == chapter}
    if not entries:
        raise LedgerError(f"no claim names {chapter!r} as its chapter")
    return Part(chapter, entries, parameters.changed() if parameters is not None else ())


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
