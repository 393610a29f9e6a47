"""The front page's table and picture, written from the recorded runs: ``python -m bnkit.front
[--check]``.

README.md holds the table between two marker lines; everything else in it is written by hand. The
picture is an SVG file that README.md and the book's index page both show. With ``--check`` nothing
is written, and a table or a picture that is not what today's records give ends with status 1.
"""

import argparse
import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import style

from bnkit import paths
from bnkit.plots import mnist
from bnkit.runs import records
from bnkit.runs.records import Record, RecordError
from bnkit.studies import inception

BEGIN = "<!-- results: begin (written by `python -m bnkit.front`, not by hand) -->"
END = "<!-- results: end -->"
CHAPTER = "[8](chapters/08-mnist.ipynb)"
REMEDY = "write it anew: python -m bnkit.front"
EARLY = 5000  # steps; the first round number at which the paper's Figure 1(a) draws both curves
HEAD = (
    "What the paper says",
    "The paper's number",
    "Ours: mean ± standard deviation over seeds",
    "Seeds",
    "Chapter",
)


class Row(NamedTuple):
    """One line of the table, as Markdown."""

    claim: str
    paper: str
    ours: str
    seeds: int
    chapter: str = CHAPTER


def rows() -> list[Row]:
    """The results, from recorded runs and the paper's digitised curves. Raises RecordError where a
    run is missing.
    """
    printed = _paper()
    with_bn, without = records.load_all("mnist", "with-bn"), records.load_all("mnist", "without-bn")
    best = {net: _best(net) for net in ("with-bn", "without-bn")}
    small = [
        records.load_all("mnist", f"{net}-sigma-0.01-lr-0.1") for net in ("with-bn", "without-bn")
    ]
    low, high = (printed[f"figure1c/with_bn/p{percent}"][1] for percent in (15, 85))
    theirs = [
        [_at(printed[f"figure1a/{net}"], step) for net in ("with_bn", "without_bn")]
        for step in (EARLY, None)
    ]
    rates = [f"{runs[0].recipe['learning_rate']:g}" for runs in best.values()]
    return [
        Row(
            f"it trains faster: test accuracy after {EARLY:,} steps (Figure 1a)",
            _versus(*(f"{100 * value:.1f} %" for value in theirs[0])),
            _versus(_percent(with_bn, EARLY), _percent(without, EARLY)),
            _seeds(with_bn, without),
        ),
        Row(
            "it ends more accurate (Figure 1a)",
            _versus(*(f"{100 * value:.1f} %" for value in theirs[1])),
            _versus(_percent(with_bn), _percent(without)),
            _seeds(with_bn, without),
        ),
        Row(
            f"the same, each network at the best of {len(_rates('with-bn'))} learning rates",
            "none: the paper gives no learning rate",
            _versus(_percent(best["with-bn"]), _percent(best["without-bn"]))
            + f" (rates {rates[0]} and {rates[1]})",
            _seeds(*best.values()),
        ),
        Row(
            "inputs to the sigmoids stay stable: 85th minus 15th percentile, start → end (Figure 1c)",
            f"{high[0] - low[0]:.2f} → {high[-1] - low[-1]:.2f}, one unit",
            f"{_mean(_spread(with_bn, 0))} → {_mean(_spread(with_bn, -1))}, median of all units",
            _seeds(with_bn),
        ),
        Row(
            "initialisation matters less (abstract): initial weights ten times smaller, "
            f"{small[0][0].recipe['steps']:,} steps",
            "none",
            _versus(*(_percent(runs) for runs in small)),
            _seeds(*small),
        ),
        *_inception(),
    ]


def _inception() -> list[Row]:
    """What Figure 3 shows, at both sizes of pictures."""
    printed, chapter = inception.paper()["figure3"], "[9](chapters/09-inception.ipynb)"
    families = inception.family(), inception.family("64px")
    wanted = {
        "bn-baseline": "steps to the best accuracy that Inception reaches without BN: with BN (Figure 3)",
        "bn-x5": "the same, with BN and the recipe that it makes possible (BN-x5)",
    }
    rows = []
    for net, claim in wanted.items():
        theirs = f"{printed['inception'][1] / printed[net][1]:.1f} times fewer"
        ours = (inception.show_reached(inception.ratio(family, net)) for family in families)
        seeds = _seeds(*(family.runs[net] for family in families))
        rows.append(
            Row(
                claim, theirs, "{} times fewer, {} on larger pictures".format(*ours), seeds, chapter
            )
        )
    without = records.load_all("inception", "inception-sigmoid-64px")
    with_bn = families[1].runs["bn-x5-sigmoid"]
    best = (f"{inception.show(inception.best(runs), 1, 100)} %" for runs in (with_bn, without))
    theirs = _versus(f"{printed['bn-x5-sigmoid'][2]:.1f} %", "chance")
    claim = "Inception with sigmoids trains: best accuracy (Section 4.2.2), on larger pictures"
    return [*rows, Row(claim, theirs, _versus(*best), _seeds(with_bn, without), chapter)]


def table() -> str:
    """``rows`` as a Markdown table."""
    lines = [HEAD, [":--", ":--", ":--", "--:", "--:"], *rows()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def picture() -> str:
    """Figure 1(a) beside the same two networks at the rate that suits the one without BN best; text
    of an SVG file.
    """
    rate = _best("without-bn")[0].recipe["learning_rate"]
    drawing = mnist.hero(
        records.load_all("mnist", "with-bn"),
        records.load_all("mnist", "without-bn"),
        _paper(),
        tuned=(_rates("with-bn")[rate], _rates("without-bn")[rate]),
    )
    buffer = io.StringIO()
    with style.context(paths.STYLE):
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def fill(text: str, new: str) -> str:
    """`text` with `new` between the two marker lines. Raises ValueError unless each is there once,
    in this order.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in tail:
        raise ValueError(
            f"README.md must hold these two lines once each, in this order:\n{BEGIN}\n{END}"
        )
    return f"{head}{BEGIN}\n\n{new}\n\n{END}{tail}"


def stale(readme: Path, image: Path) -> list[str]:
    """What is not as today's records give it, as sentences; empty where all is well."""
    problems = []
    text = readme.read_text(encoding="utf-8")
    if fill(text, table()) != text:
        problems.append(
            f"the results table in {readme.name} is not what the recorded runs give; {REMEDY}"
        )
    if not image.exists() or not _same(image.read_text(encoding="utf-8"), picture()):
        problems.append(
            f"{image.parent.name}/{image.name} is not what the recorded runs give; {REMEDY}"
        )
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bnkit.front", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 where something is stale"
    )
    options = parser.parse_args(arguments)
    readme, image = (
        paths.root() / "README.md",
        paths.root() / "chapters" / "images" / "figure-1.svg",
    )
    try:
        problems = stale(readme, image)
        if problems and not options.check:
            paths.write_atomically(readme, fill(readme.read_text(encoding="utf-8"), table()))
            paths.write_atomically(image, picture())
            problems = []
    except (RecordError, ValueError, OSError) as error:
        problems = [str(error)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


# What is read off the records


def _rates(net: str) -> dict[float, list[Record]]:
    """The runs of `net` by learning rate: the main ones, and those that differ from them in that
    alone.
    """
    variants = {variant for experiment, variant, _ in records.index() if experiment == "mnist"}
    chosen = [net, *sorted(name for name in variants if re.fullmatch(rf"{net}-lr-[\d.]+", name))]
    found = (records.load_all("mnist", variant) for variant in chosen)
    return {runs[0].recipe["learning_rate"]: runs for runs in found}


def _best(net: str) -> list[Record]:
    """The runs of `net` at the learning rate whose mean final accuracy is highest."""
    return max(_rates(net).values(), key=lambda runs: _accuracy(runs).mean())


def _accuracy(runs: list[Record], step: int | None = None) -> np.ndarray:
    """Test accuracy of each run after `step` steps (default: at the end). Shapes: (seeds,)."""
    steps, values = records.stack(runs, "test_accuracy")
    return values[:, -1] if step is None else values[:, list(steps).index(step)]


def _spread(runs: list[Record], which: int) -> np.ndarray:
    """85th minus 15th percentile of what a sigmoid receives, median over units, at record `which`.
    Shapes: (seeds,).
    """
    percentiles = records.stack(runs, "quantiles")[1][:, which]  # (seeds, units, 3)
    return np.median(percentiles[..., 2] - percentiles[..., 0], axis=1)


def _paper() -> dict[str, np.ndarray]:
    """The paper's digitised curves, name -> (steps, values), an array of shape (2, T)."""
    content = json.loads((paths.paper() / "curves.json").read_text(encoding="utf-8"))
    return {name: np.asarray(content[name], float).T for name in content if name != "about"}


def _at(curve: np.ndarray, step: int | None) -> float:
    """A digitised curve at `step`, along its straight lines (default: its last drawn point)."""
    return float(curve[1, -1] if step is None else np.interp(step, *curve))


# In words


def _mean(values: np.ndarray, unit: str = "") -> str:
    spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{spread}{unit}"


def _percent(runs: list[Record], step: int | None = None) -> str:
    return _mean(100 * _accuracy(runs, step), " %")


def _versus(with_bn: str, without: str) -> str:
    return f"{with_bn} with BN, {without} without"


def _seeds(*groups: list[Record]) -> int:
    """How many seeds stand behind each number of a row; the fewest, where they differ."""
    return min(len(runs) for runs in groups)


def _same(old: str, new: str) -> bool:
    """Whether two SVG texts are one picture: equal text, and numbers equal to a hundredth of a
    point.

    Another processor may round a coordinate differently, and matplotlib derives the ids inside from
    the coordinates.
    """
    number = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
    old, new = (re.sub(r"\b[mpCh][0-9a-f]{10}\b", "id", text) for text in (old, new))
    if number.sub("#", old) != number.sub("#", new):
        return False
    return all(
        abs(float(a) - float(b)) <= 0.01
        for a, b in zip(number.findall(old), number.findall(new), strict=True)
    )


if __name__ == "__main__":
    sys.exit(main())
