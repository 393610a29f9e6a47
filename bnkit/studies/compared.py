"""Runs of one chapter side by side: what differs between them, and which results differ with it.

A difference counts as one where it is larger than both spreads together, mean ± standard deviation
over seeds on either side; where a spread is not known, for want of a second seed, nothing is said.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from bnkit import paths
from bnkit.page.prose import as_table
from bnkit.page.quantities import Curve, Result, words
from bnkit.page.reruns import Rerun
from bnkit.page.reruns import load as load_run

LABELS = "labels.json"
HIGHER, LOWER = "▲", "▼"
EQUAL = 1e-9  # relative: what is computed without chance agrees to rounding, or differs
Runs = Mapping[str, Rerun]  # by label; the first is what the others are compared with


def load(folder: str) -> dict[str, Rerun]:
    """The runs that ``python -m bnkit.book compare`` has laid into `folder`, by label."""
    place = paths.root() / folder
    labels = json.loads((place / LABELS).read_text(encoding="utf-8"))
    return {label: load_run(Path(place) / str(number)) for number, label in enumerate(labels)}


def differing(runs: Runs) -> dict[str, list[object]]:
    """The parameters that are not the same in all runs, with the value of each run."""
    first = next(iter(runs.values()))
    values = {
        name: [run.parameters.get(name) for run in runs.values()] for name in first.parameters
    }
    return {
        name: of_runs for name, of_runs in values.items() if any(v != of_runs[0] for v in of_runs)
    }


def beyond(one: Result, other: Result) -> bool | None:
    """Whether two results differ by more than their spreads; None where nobody can know."""
    if one.mean is None or other.mean is None or one.spread is None or other.spread is None:
        return None
    least = max(one.spread + other.spread, EQUAL * max(abs(one.mean), abs(other.mean)))
    return abs(other.mean - one.mean) > least


def parameters_table(runs: Runs) -> str:
    """The parameters that differ, in Markdown."""
    rows = [(f"`{name}`", *(f"`{v}`" for v in values)) for name, values in differing(runs).items()]
    others = [name for name in next(iter(runs.values())).parameters if name not in differing(runs)]
    same = (
        f"The same in all of them: {', '.join(f'`{name}`' for name in others)}." if others else ""
    )
    if not rows:
        return "All parameters are equal."
    return f"{as_table(('parameter', *runs), rows, 'l' * (1 + len(runs)))}\n\n{same}"


def names(runs: Runs) -> list[str]:
    """The results that any of the runs has, in their order."""
    return list(dict.fromkeys(name for run in runs.values() for name in run.results))


def results_table(runs: Runs) -> str:
    """Every result of every run, with its spread, and where it differs from the first's."""
    rows = [_row(name, runs) for name in names(runs)]
    unlike = len(runs) == 2
    header = ("result", "unit", *runs, *(["difference"] if unlike else []))
    return as_table(header, rows, "ll" + "r" * (len(header) - 2))


def _row(name: str, runs: Runs) -> list[str]:
    first, *others = (run.results.get(name) for run in runs.values())
    known = next(result for result in (first, *others) if result)
    cells = [f"`{name}` {known.what}".strip(), known.unit, first.unbroken if first else "–"]
    for other in others:
        cells.append(f"{other.unbroken} {_mark(first, other)}".strip() if other else "–")
    if len(others) == 1:
        (other,) = others
        both = first and other and None not in (first.mean, other.mean)
        cells.append(_signed(other.mean - first.mean) if both else "")
    return cells


def _mark(first: Result | None, other: Result) -> str:
    if not first or not beyond(first, other):
        return ""
    return HIGHER if other.mean > first.mean else LOWER


def _signed(difference: float) -> str:
    return ("+" if difference > 0 else "") + words(difference)


def summary(runs: Runs) -> str:
    """In words: how many results differ by more than their spread, from the first run's."""
    first, *others = runs
    lines = []
    for label in others:
        pairs = {name: _pair(name, runs[first], runs[label]) for name in names(runs)}
        both = {name: pair for name, pair in pairs.items() if pair}
        told = {name: beyond(*pair) for name, pair in both.items()}
        marked = [f"`{name}`" for name, differs in told.items() if differs]
        unknown = sum(differs is None for differs in told.values())
        line = (
            f"**{label}** against **{first}**: {len(marked)} of {len(both)} results differ by more"
        )
        line += f" than their spreads{': ' if marked else ''}{', '.join(marked)}."
        if unknown:
            line += f" Of {unknown} no spread is known, for want of a second seed or of a value."
        lines.append(line)
    return "\n\n".join(lines)


def _pair(name: str, one: Rerun, other: Rerun) -> tuple[Result, Result] | None:
    pair = one.results.get(name), other.results.get(name)
    return pair if all(pair) else None


def notes(runs: Runs) -> str:
    """What else is not alike: what results are said to be, code and versions."""
    lines = []
    for name in names(runs):
        said = {label: run.results[name].what for label, run in runs.items() if name in run.results}
        if len(set(said.values())) > 1:
            each = "; ".join(f"{label}: {what}" for label, what in said.items())
            lines.append(f"- `{name}` is not the same quantity: {each}.")
    if len({run.source for run in runs.values()}) > 1:
        lines.append("- The chapter or its code has changed between these runs.")
    first = next(iter(runs.values()))
    for part in first.versions:
        made = {label: run.versions.get(part, "?") for label, run in runs.items()}
        if len(set(made.values())) > 1:
            each = "; ".join(f"{label}: {version}" for label, version in made.items())
            lines.append(f"- {part} differs: {each}.")
    return "\n".join(["Mind that:", "", *lines]) if lines else ""


def curves(runs: Runs) -> dict[str, dict[str, Curve]]:
    """The curves of all runs by name, and by the label of the run."""
    by_name: dict[str, dict[str, Curve]] = {}
    for label, run in runs.items():
        for curve in run.curves:
            by_name.setdefault(curve.name, {})[label] = curve
    return by_name
