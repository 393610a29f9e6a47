"""The front page's table and picture, written from the recorded runs.

README.md holds the table between two marker lines; everything else in it is written by hand. The
picture is an SVG file that README.md and the book's index page both show. With ``--check`` nothing
is written, and a table or a picture that is not what today's records give ends with status 1.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bnkit import paths
from bnkit.page.prose import as_table
from bnkit.plots import mnist as figures
from bnkit.runs import experiments
from bnkit.runs.records import Record, RecordError
from bnkit.studies import inception, mnist, recorded

COMMAND = "python -m bnkit.front"
BEGIN = f"<!-- results: begin (written by `{COMMAND}`, not by hand) -->"
END = "<!-- results: end -->"
CHAPTER = "[8](chapters/08-mnist.ipynb)"
EARLY = 5000  # steps; the first round number at which the paper's Figure 1(a) draws both curves
OURS = "Ours: mean ± standard deviation over seeds"
HEAD = ("What the paper says", "The paper's number", OURS, "Seeds", "Chapter")


class Row(NamedTuple):
    """One line of the table, as Markdown."""

    claim: str
    paper: str
    ours: str
    seeds: int
    chapter: str = CHAPTER


def rows() -> list[Row]:
    """The results, from the records and the paper's curves; RecordError where a run is missing."""
    return [*_figure_1(), *_figure_3()]


def _figure_1() -> list[Row]:
    """What Figure 1 shows, and what it leaves out: the learning rate, and the initial weights."""
    paper, rates = recorded.digitized(), mnist.by_rate()
    main, small = rates[mnist.RATES[0]], mnist.by_init(mnist.RATES[0])[mnist.SIGMAS[0]]
    curves = [paper[f"figure1a/{net}"] for net in ("with_bn", "without_bn")]
    early = [f"{100 * recorded.at(curve, EARLY):.1f} %" for curve in curves]
    end = [f"{100 * curve[1][-1]:.1f} %" for curve in curves]
    low, high = (paper[f"figure1c/with_bn/p{percent}"][1] for percent in (15, 85))
    spreads = [np.median(mnist.spread(main.with_bn, step), axis=1) for step in (0, None)]
    best = [mnist.best(rates, net)[0] for net in ("with_bn", "without_bn")]
    tuned = rates[best[0]].with_bn, rates[best[1]].without_bn
    stable = (
        "inputs to the sigmoids stay stable: 85th minus 15th percentile, start → end (Figure 1c)",
        f"{high[0] - low[0]:.2f} → {high[-1] - low[-1]:.2f}, one unit",
        f"{' → '.join(recorded.show(spread, 2) for spread in spreads)}, median of all units",
    )
    faster = f"it trains faster: test accuracy after {EARLY:,} steps (Figure 1a)"
    equal = f"the same, each network at the best of {len(rates)} learning rates"
    unsaid = "none: the paper gives no learning rate"
    at_best = f"{_accuracies(tuned)} (rates {best[0]:g} and {best[1]:g})"
    careless = "initialization matters less (abstract): initial weights ten times smaller"
    both, bad = mnist.nets(main), mnist.nets(small)
    return [
        Row(faster, _versus(*early), _accuracies(both, EARLY), main.seeds),
        Row("it ends more accurate (Figure 1a)", _versus(*end), _accuracies(both), main.seeds),
        Row(equal, unsaid, at_best, min(map(len, tuned))),
        Row(*stable, main.seeds),
        Row(f"{careless}, {small.steps:,} steps", "none", _accuracies(bad), small.seeds),
    ]


def _figure_3() -> list[Row]:
    """What Figure 3 shows, at both sizes of pictures."""
    chapter = "[9](chapters/09-inception.ipynb)"
    families = inception.family(), inception.family("64px")
    first = "steps to the best accuracy that Inception reaches without BN: with BN (Figure 3)"
    second = "the same, with BN and the recipe that it makes possible (BN-x5)"
    made = []
    for net, claim in (("bn-baseline", first), ("bn-x5", second)):
        theirs = f"{inception.paper_ratio(net):.1f} times fewer"
        here = (recorded.show_reached(inception.ratio(family, net)) for family in families)
        ours = "{} times fewer, {} on larger pictures".format(*here)
        made.append(Row(claim, theirs, ours, min(family.seeds for family in families), chapter))
    without = experiments.load_all("inception/inception-sigmoid-64px")
    nets = families[1].runs["bn-x5-sigmoid"], without
    best = _versus(*(f"{recorded.show(inception.best(runs), 1, 100)} %" for runs in nets))
    theirs = _versus(f"{recorded.printed()['figure3']['bn-x5-sigmoid'][2]:.1f} %", "chance")
    claim = "Inception with sigmoids trains: best accuracy (Section 4.2.2), on larger pictures"
    return [*made, Row(claim, theirs, best, min(map(len, nets)), chapter)]


def _accuracies(nets: Sequence[list[Record]], step: int | None = None) -> str:
    """Test accuracy with BN and without after `step` steps (default: at the end), in words."""
    return _versus(*(f"{mnist.percent(runs, step, 2)} %" for runs in nets))


def _versus(with_bn: str, without: str) -> str:
    return f"{with_bn} with BN, {without} without"


def table() -> str:
    """``rows`` as a Markdown table."""
    return as_table(HEAD, rows(), "lllrr")


def pictures() -> dict[str, str]:
    """Figure 1(a) beside the same at the rate that is best without BN: SVG texts by file name.

    The second is for phones.
    """
    rates = mnist.by_rate()
    best, _ = mnist.best(rates, "without_bn")
    drawing = figures.hero(rates[mnist.RATES[0]], rates[best], recorded.digitized())
    drawn = {"figure-1.svg": drawing, "figure-1-narrow.svg": drawing.narrow()}
    return {name: one.svg().replace("><", ">\n<") + "\n" for name, one in drawn.items()}


def fill(text: str, new: str) -> str:
    """`text` with `new` between the two marker lines; ValueError unless there is one of each."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in tail:
        problem = "README.md must hold these two lines once each, in this order"
        raise ValueError(f"{problem}:\n{BEGIN}\n{END}")
    return f"{head}{BEGIN}\n\n{new}\n\n{END}{tail}"


def stale(readme: Path, images: Path) -> list[str]:
    """What is not as today's records give it, as sentences; empty where all is well."""
    problems = []
    text = readme.read_text(encoding="utf-8")
    if fill(text, table()) != text:
        problems.append(f"the results table in {readme.name}")
    for name, drawn in pictures().items():
        image = images / name
        if not image.exists() or not _same(image.read_text(encoding="utf-8"), drawn):
            problems.append(f"{images.name}/{name}")
    wrong = f"is not what the recorded runs give; write it anew: {COMMAND}"
    return [f"{what} {wrong}" for what in problems]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write table and picture, or check them; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    text = "write nothing; status 1 where something is stale"
    parser.add_argument("--check", action="store_true", help=text)
    options = parser.parse_args(arguments)
    try:
        readme, images = paths.root() / "README.md", paths.root() / "chapters" / "images"
        problems = stale(readme, images)
        if problems and not options.check:
            paths.write_atomically(readme, fill(readme.read_text(encoding="utf-8"), table()))
            for name, drawn in pictures().items():
                paths.write_atomically(images / name, drawn)
            problems = []
    except UnicodeDecodeError as error:
        problems = [f"{readme} is no text in UTF-8: {error}"]
    except (RecordError, ValueError, OSError) as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _same(old: str, new: str) -> bool:
    """Whether two SVG texts are one picture: equal text, and numbers to a hundredth of a point.

    Another processor may round a coordinate differently.
    """
    number = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
    if number.sub("#", old) != number.sub("#", new):
        return False
    pairs = zip(number.findall(old), number.findall(new), strict=True)
    return all(abs(float(a) - float(b)) < 0.015 for a, b in pairs)


if __name__ == "__main__":
    sys.exit(main())
