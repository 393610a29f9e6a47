"""The ledger of claims: each sentence of the study note, its verdict, and what bears it out.

``data/claims.yml`` holds the sentences; ``read`` checks every field of it.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import NamedTuple

import yaml

from bnkit import paths

IDS = tuple(f"C{number:02}" for number in range(1, 76))  # the note has 75 statements
# What decides about a statement: of a report the paper, of an assertion mathematics and measurement
KINDS = ("report", "assertion")
VERDICTS = ("agrees", "imprecise", "wrong", "not in the paper")
NEEDS = {  # what each kind of evidence has to give
    "measured": ("cell", "measured"),
    "analogy": ("cell", "why"),
    "not testable here": ("cell", "why"),
    "pending": ("why",),
}
EVIDENCE = tuple(NEEDS)


class LedgerError(ValueError):
    """The ledger, or what a chapter handed over, does not fit; the message lists each problem."""


# Relations: what a measured value must satisfy, in words that are matched and never evaluated.

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
NAME = r"[a-z][a-z0-9_]*"
OPERAND = rf"(?:{NUMBER} \* {NAME}|{NUMBER}|{NAME})"
RELATION = re.compile(
    rf"(?P<sign><=|>=|<|>) (?P<bound>{OPERAND})"
    rf"|= (?P<equal>{OPERAND})(?: \+- (?P<margin>{NUMBER}))?"
    rf"|between (?P<low>{OPERAND}) and (?P<high>{OPERAND})"
)
SPELLINGS = "< 0.25, >= 3, > other_key, < 0.5 * other_key, = 31, = 1.467 +- 0.03, between 3 and 5"
SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class Relation(NamedTuple):
    """What a measured value has to satisfy: ``< 0.25``, ``between 3 and 0.5 * other_key``."""

    text: str

    def holds(self, value: float, others: Mapping[str, float]) -> bool:
        """Whether `value` satisfies it; `others` are the values of the same claim, by key."""
        match = RELATION.fullmatch(self.text)

        def read(operand: str) -> float:
            factor, _, name = operand.rpartition(" * ")
            if re.fullmatch(NUMBER, name):
                return float(name)
            return float(factor or 1) * others[name]

        if match["sign"]:
            return SIGNS[match["sign"]](value, read(match["bound"]))
        if match["equal"]:
            return abs(value - read(match["equal"])) <= float(match["margin"] or 0)
        return read(match["low"]) <= value <= read(match["high"])

    @property
    def names(self) -> set[str]:
        """The other keys that it refers to."""
        match = RELATION.fullmatch(self.text)
        operands = filter(None, match.group("bound", "equal", "low", "high"))
        last_words = (operand.split()[-1] for operand in operands)
        return {word for word in last_words if re.fullmatch(NAME, word)}


def relation(text: str) -> Relation:
    """Read a relation. Raises LedgerError, with the spellings that are allowed."""
    if not isinstance(text, str) or not RELATION.fullmatch(text):
        raise LedgerError(f"{text!r} is no relation; write, for example: {SPELLINGS}")
    return Relation(text)


# The ledger


@dataclass(frozen=True)
class Claim:
    """One statement of the note."""

    id: str  # C01 to C75, in the note's order
    note: str  # where it stands: the line of the note, or its lines
    statement: str  # what the note says, in our words
    kind: str  # of KINDS: on what the paper says or shows, or on what is the case
    verdict: str  # on the statement as it stands in the note; the page of all claims defines each
    paper: str  # where the paper says it, or something else
    chapter: str  # the chapter that answers for it
    evidence: str  # what kind there is
    correction: str = ""  # what is the case instead; empty where the note agrees
    cell: str = ""  # the cell of the chapter that measures or discusses it
    measured: dict[str, Relation] = field(default_factory=dict)  # what each value must satisfy
    finding: str = ""  # what was measured, in words, with {key:format} where the numbers go
    test: str = ""  # the test that enforces it, as tests/test_x.py::test_y
    why: str = ""  # why nothing can be measured, or not yet
    only_at_defaults: bool = False  # whether the relations need the chapter's own parameters

    @property
    def badge(self) -> str:
        """The verdict as a link to the claim in the ledger, in Markdown."""
        return f"[{self.id} · {self.verdict}]({self.address})"

    @property
    def address(self) -> str:
        """Where a link leads to: the claim's row on the site, its cell in JupyterLab."""
        return f"claims.ipynb#cell-id={self.id.lower()}"

    def name(self, key: str) -> str:
        """The name under which a measured value is stored in the executed notebook."""
        return f"{self.id.lower()}_{key}"

    def says(self, quote: Callable[[str, str], str]) -> str:
        """The finding, ``quote(key, format)`` in the place of each number, or why there is none."""
        finding = ""
        for text, key, spec, _ in Formatter().parse(self.finding):
            finding += text if key is None else text + quote(key, spec)
        if self.evidence == "measured":
            return finding
        return sentences(f"*{self.evidence}:* {self.why}", finding)

    def broken(self, values: Mapping[str, float]) -> list[str]:
        """The relations that `values` do not satisfy, each in words with the claim's name."""
        items = self.measured.items()
        broken = [(key, must.text) for key, must in items if not must.holds(values[key], values)]
        claim = f"{self.id} ({self.verdict}: {self.statement})"
        problem = f"{claim} no longer stands on what was measured"
        return [
            f"{problem}: {key} is {values[key]:.6g}, and must be {must}" for key, must in broken
        ]


def sentences(*texts: str) -> str:
    """Those of `texts` that say something, each with its full stop."""
    return " ".join(f"{text.rstrip('.')}." for text in texts if text)


def read(path: Path | None = None) -> dict[str, Claim]:
    """The ledger by id, by default the project's. Raises LedgerError, once, with every problem."""
    path = path or paths.root() / "data" / "claims.yml"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise LedgerError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(entries, list):
        raise LedgerError(f"{path.name} must be a list of claims, not {type(entries).__name__}")
    ledger, problems = {}, []
    for position, entry in enumerate(entries, start=1):
        name = entry.get("id") if isinstance(entry, dict) else None
        if name not in IDS:
            wanted = f"must be a claim with an id from {IDS[0]} to {IDS[-1]}"
            problems.append(f"entry {position}: {wanted}, not {name!r}")
            continue
        wrong = _problems(entry)
        if name in ledger:
            wrong.append("is in the ledger twice")
        problems += [f"{name}: {problem}" for problem in wrong]
        ledger[name] = None if wrong else _claim(entry)
    problems += [f"{name}: is missing" for name in IDS if name not in ledger]
    if problems:
        raise LedgerError("\n  ".join([f"{path.name}:", *problems]))
    return ledger


def _claim(entry: dict) -> Claim:
    relations = {key: relation(text) for key, text in entry.get("measured", {}).items()}
    return Claim(**(entry | {"note": str(entry["note"]), "measured": relations}))


FIELDS = tuple(Claim.__dataclass_fields__)
ALWAYS = ("id", "note", "statement", "kind", "verdict", "paper", "chapter", "evidence")
TEXTS = tuple(name for name in FIELDS if name not in ("note", "measured", "only_at_defaults"))


def _problems(entry: dict) -> list[str]:
    """What is wrong with one entry; how its fields fit together is seen once each is sound."""
    unknown = (name for name in entry if name not in FIELDS)
    problems = [f"has an unknown field {name!r}; known are {', '.join(FIELDS)}" for name in unknown]
    for name in ALWAYS:
        if not str(entry.get(name) or "").strip():
            problems.append(f"says nothing under {name!r}")
    for name in TEXTS:
        if not isinstance(value := entry.get(name, ""), str):
            problems.append(f"{name!r} must be text, not {value!r}")
    measured = entry.get("measured", {})
    if not isinstance(measured, dict) or not all(isinstance(key, str) for key in measured):
        return [*problems, f"'measured' must name the values and their relations, not {measured!r}"]
    return problems or [*_verdict_problems(entry, measured), *_value_problems(entry, measured)]


def _verdict_problems(entry: dict, measured: dict) -> list[str]:
    """Where verdict, evidence and what each of them needs do not fit together."""
    problems = []
    evidence, verdict = entry["evidence"], entry["verdict"]
    pairs = ((entry["kind"], KINDS), (verdict, VERDICTS), (evidence, EVIDENCE))
    for value, allowed in pairs:
        if value not in allowed:
            problems.append(f"{value!r} is none of {', '.join(allowed)}")
    if bool(entry.get("correction")) == (verdict == "agrees"):
        problems.append("needs a correction unless its verdict is 'agrees', and only then")
    needed = (*NEEDS.get(evidence, ()), *(("finding", "test") if measured else ()))
    lacking = (name for name in needed if not entry.get(name))
    problems += [f"has evidence {evidence!r} and so needs {name!r}" for name in lacking]
    if evidence in ("not testable here", "pending") and measured:
        problems.append(f"has measured values although its evidence is {evidence!r}")
    return problems


def _value_problems(entry: dict, measured: dict) -> list[str]:
    """What is wrong with the names of measured values, their relations, and their quotations."""
    problems = []
    for key, text in measured.items():
        if not re.fullmatch(NAME, key):
            problems.append(f"{key!r} cannot name a value: small letters, digits and _")
        try:
            unknown = relation(text).names - set(measured)
        except LedgerError as error:
            problems.append(f"{key}: {error}")
        else:
            for name in sorted(unknown):
                problems.append(f"{key}: its relation names {name!r}, which is not measured")
    try:
        parts = list(Formatter().parse(entry.get("finding", "")))
    except ValueError as error:
        problems.append(f"the finding cannot be read: {error}")
    else:
        quoted = {key for _, key, _, _ in parts if key is not None}
        unknown = sorted(quoted - set(measured))
        problems += [f"the finding quotes {name!r}, which is not measured" for name in unknown]
    return problems
