"""A sweep in a table and along its axis: what a chapter found at every point of a grid."""

import json
from dataclasses import dataclass
from pathlib import Path

from bnkit import paths
from bnkit.page.prose import as_table
from bnkit.page.quantities import Result
from bnkit.page.reruns import Rerun
from bnkit.page.reruns import load as load_run

BESIDE = 6  # points that a table shows as columns


@dataclass(frozen=True)
class Sweep:
    """The points of a grid and what was found there; None where a point failed."""

    chapter: str
    axes: dict[str, list]
    points: list[tuple[dict, Rerun | None, str]]  # values, what was found, or what went wrong

    @property
    def names(self) -> list[str]:
        """The results that any point has, in their order."""
        runs = [run for _, run, _ in self.points if run]
        return list(dict.fromkeys(name for run in runs for name in run.results))

    @property
    def swept(self) -> list[str]:
        """The parameters that take more than one value."""
        return [name for name, values in self.axes.items() if len(values) > 1]

    @property
    def axis(self) -> str:
        """The one along which the figure goes: most values, numbers before words."""

        def rank(name: str) -> tuple[bool, int]:
            return _are_numbers(self.axes[name]), len(self.axes[name])

        return max(self.swept, key=rank)

    @property
    def says(self) -> str:
        """What was swept, and which points failed, in Markdown."""
        told = [f"`{name}` = {', '.join(map(str, values))}" for name, values in self.axes.items()]
        failed = [(values, problem) for values, run, problem in self.points if not run]
        lines = [f"{len(self.points)} points: {'; '.join(told)}.", ""]
        if failed:
            lines += [f"**{len(failed)} of them failed:**", ""]
            told = ((_words(values), problem.replace("`", "'")) for values, problem in failed)
            lines += [f"- {point}: `{problem}`" for point, problem in told]
        return "\n".join(lines)

    @property
    def table(self) -> str:
        """What was found at each point, in Markdown; few points stand side by side."""
        axes = self.swept or list(self.axes)
        runs = [run for _, run, _ in self.points]
        found = {
            n: [r.results[n].unbroken if r and n in r.results else "–" for r in runs]
            for n in self.names
        }
        known = {name: self._known(name) for name in self.names}
        if len(self.points) > BESIDE:
            titles = [f"`{name}`{f' ({r.unit})' if r.unit else ''}" for name, r in known.items()]
            rows = [
                (*(values[axis] for axis in axes), *(found[name][number] for name in self.names))
                for number, (values, _, _) in enumerate(self.points)
            ]
            legend = [f"- `{name}`: {r.what}" for name, r in known.items() if r.what]
            header = (*(f"`{axis}`" for axis in axes), *titles)
            return "\n".join([as_table(header, rows, "r" * len(header)), "", *legend])
        rows = [(f"`{name}` {r.what}".strip(), r.unit, *found[name]) for name, r in known.items()]
        titles = [_words({axis: values[axis] for axis in axes}) for values, _, _ in self.points]
        head = "result"
        if len(axes) == 1:  # said once, so that more columns fit
            head, titles = f"result, by `{axes[0]}`", [t.partition("=")[2] for t in titles]
        return as_table((head, "unit", *titles), rows, "ll" + "r" * len(titles))

    @property
    def along(self) -> tuple[str, list, dict[str, dict[str, list[Result | None]]]]:
        """Axis, its values, and results by name and by setting of the other parameters."""
        values = sorted(self.axes[self.axis]) if self._numeric else self.axes[self.axis]
        found: dict[str, dict[str, list[Result | None]]] = {}
        for name in filter(self._varies, self.names):
            by_setting = found.setdefault(name, {})
            for point, run, _ in self.points:
                others = {key: point[key] for key in self.swept if key != self.axis}
                row = by_setting.setdefault(_words(others), [None] * len(values))
                row[values.index(point[self.axis])] = run.results.get(name) if run else None
        return self.axis, values, found

    @property
    def _numeric(self) -> bool:
        return _are_numbers(self.axes[self.axis])

    def _varies(self, name: str) -> bool:
        """Whether a result is there, and not the same at every point: else it needs no panel.

        Where it is missing at some points, as a number of steps to what was never reached, it is
        not the same.
        """
        found = [run.results[name] for _, run, _ in self.points if run and name in run.results]
        means = {result.mean for result in found}
        return means != {None} and (len(means) > 1 or len(found) == 1)

    def _known(self, name: str) -> Result:
        runs = (run for _, run, _ in self.points if run and name in run.results)
        return next(runs).results[name]


def load(folder: str) -> Sweep:
    """The sweep that ``python -m bnkit.book sweep`` has laid into `folder`."""
    place = paths.root() / folder
    content = json.loads((place / "sweep.json").read_text(encoding="utf-8"))
    points = [_point(place, point) for point in content["points"]]
    return Sweep(content["chapter"], content["axes"], points)


def _point(place: Path, point: dict) -> tuple[dict, Rerun | None, str]:
    run = None if point["problem"] else load_run(place / "points" / point["name"])
    return point["values"], run, point["problem"]


def _are_numbers(values: list) -> bool:
    return all(type(value) in (int, float) for value in values)


def _words(values: dict) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
