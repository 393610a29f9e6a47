"""Every value that a chapter allows is one that it runs with: no assertion of its own breaks.

hypothesis draws parameters from the ranges that the chapter itself declares, the costly ones from
their lower part, and runs the chapter's cells one after another. No sentence that it shows may hold
a number that is none. ``BNKIT_PARAMETER_DRAWS=10`` draws more of them than `make test` does, also
for the chapters that take longer than four seconds, and draws their figures as well.
"""

import ast
import contextlib
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import IPython.display
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bnkit.page import assertions, parameters, prose, quantities
from bnkit.runs import live

ROOT = Path(__file__).parents[1]
DRAWS = int(os.environ.get("BNKIT_PARAMETER_DRAWS", "1"))
DATA = "BNKIT_DATA" in os.environ  # all data sets are there, and not only those of packages
# Up to where a parameter is drawn: it is the chapter's running time that grows from there. Of a
# choice: from which of the values.
SMALL = {
    "00-in-two-minutes": {"examples": 3_000},
    "01-vanishing-gradients": {"depth": 20, "width": 60, "batch": 96, "seeds": 2, "steps": 60, "deepest": 8},
    "02-covariate-shift": {"depth": 20, "width": 60, "seeds": 1, "steps": 80},
    "03-whitening": {"features": 150, "steps": 1_000, "batches": 40},
    "04-the-transform": {"seeds": 2, "steps": 100, "width": 48},
    "05-backpropagation": {"batches": 10},
    "06-inference": {"seeds": 2, "steps": 150, "draws": 8_000, "checks": 6},
    "07-convolution": {"seeds": 2, "steps": 80, "images": 16, "maps": 2_000},
    "08-mnist": {"steps": 120, "seeds": 2, "batch_size": 200, "dataset": ("digits",)},
    "09-inception": {"steps": 12, "seeds": 4, "live_seeds": 1, "dataset": ("digits",)},
    "10-after-the-paper": {"seeds": 2, "steps": 60, "deepest": 5, "widest": 24},
    "11-in-practice": {"seeds": 1, "steps": 60},
    "across-libraries": {"steps": 400},
    "claims": {},
    "so-what-does-bn-do": {"seeds": 1, "steps": 50, "deepest": 4},
    "the-layer": {"longest": 14, "processes": 2},
}  # fmt: skip
if DATA:
    for limits in SMALL.values():
        limits.pop("dataset", None)
# A draw takes more than four seconds, however small
LONG = {"08-mnist", "09-inception", "10-after-the-paper", "so-what-does-bn-do", "the-layer"}
VALUE = "_value"  # the name under which a cell's value is kept
LONGER = "takes more than four seconds: BNKIT_PARAMETER_DRAWS=2 runs it"
NO_NUMBER = re.compile(r"(?<![\w`])(nan|inf)(?![\w`])")  # as Python writes it; text says NaN


def cells(chapter: str) -> list[tuple[str, bool, str]]:
    """The code cells of a chapter: id, whether it is the one of the parameters, source."""
    content = json.loads((ROOT / "chapters" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    code = (cell for cell in content["cells"] if cell["cell_type"] == "code")
    return [
        (cell["id"], "parameters" in cell["metadata"].get("tags", []), "".join(cell["source"]))
        for cell in code
    ]


def run(chapter: str, values: dict) -> list[str]:
    """Run all cells with these parameters, as papermill would; what they show, each in words.

    What they print is left out: it is the teaching cells', some of which show an overflow.
    """
    names = {"__name__": "__main__", assertions.CALLED: assertions.found}
    shown = []

    def show(*things, **options):
        shown.extend(str(getattr(thing, "data", thing)) for thing in things)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(prose, "display", show)
        patch.setattr(IPython.display, "display", show)
        patch.setattr(quantities, "_handed", {})  # a kernel of its own has handed over nothing yet
        for name, declares, source in cells(chapter):
            names[VALUE] = None
            exec(assertions.compiled(with_value(source), name), names)
            if declares:
                told = "\n".join([parameters.INJECTED, *(f"{key} = ..." for key in values)])
                names |= values | {"In": ["", source, told, ""]}
            if DRAWS > 1 and hasattr(names[VALUE], "_repr_mimebundle_"):
                names[VALUE]._repr_mimebundle_()  # a figure is drawn where it is shown
    return shown


def with_value(source: str) -> str:
    """A cell whose last expression, which a notebook shows, is kept under the name ``VALUE``."""
    tree = ast.parse(source)
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        tree.body[-1] = ast.Assign([ast.Name(VALUE, ast.Store())], last.value)
    return ast.unparse(ast.fix_missing_locations(tree))


def strategies(chapter: str) -> dict[str, st.SearchStrategy]:
    """What each parameter of a chapter may be, by the rules in its own check, or its default."""
    found, limits = {}, SMALL[chapter]

    def ranged(draw, make):
        def rule(low, high, **options):
            made, open_ = make(low, high, **options), {"exclude_min": True} if options else {}

            def drawn(name):
                most = min(high, max(low, limits.get(name, high)))
                usual = [st.just(names[name])] if low <= names[name] <= most else []
                return st.one_of(*usual, draw(low, most, **open_))

            found[id(made)] = drawn
            return made

        return rule

    def chosen(*allowed):
        made = choice(*allowed)
        found[id(made)] = lambda name: st.sampled_from(limits.get(name, allowed))
        return made

    class Declared(Exception):
        pass

    def check(namespace, /, *, chapter=None, **rules):
        raise Declared({name: found[id(rule)](name) for name, rule in rules.items()})

    choice = parameters.choice
    (_, _, declaring), (_, _, checking) = cells(chapter)[:2]
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters, "integer", ranged(st.integers, parameters.integer))
        patch.setattr(parameters, "number", ranged(st.floats, parameters.number))
        patch.setattr(parameters, "choice", chosen)
        patch.setattr(parameters, "flag", lambda: chosen(False, True))
        patch.setattr(parameters, "check", check)
        exec(declaring, names)
        try:
            exec(checking, names)
        except Declared as declared:
            return declared.args[0]
    raise AssertionError(f"{chapter} checks no parameters")


def known() -> Iterator[tuple[str, dict]]:
    """Values with which chapters once broke their own assertions."""
    narrow = {"seeds": 2, "steps": 60, "batch_size": 20, "width": 16}
    yield "04-the-transform", {"seed": 7, **narrow}
    few = {"features": 2, "condition": 200.0, "steps": 100, "batches": 20}
    yield "03-whitening", {"seed": 7, **few, "timed": False}
    few_seeds = {"seeds": 1, "steps": 40, "deepest": 6}
    yield "01-vanishing-gradients", {"depth": 18, "width": 57, "batch": 71, **few_seeds}
    yield "01-vanishing-gradients", {"depth": 19, "width": 50, "batch": 64, **few_seeds}
    short = {"steps": 61, "seeds": 1}
    yield "02-covariate-shift", {"depth": 18, "width": 59, "change": 1e-5, **short}
    wild = {"seeds": 2, "steps": 200, "batch_size": 240, "rate": 2.0, "draws": 4000, "checks": 5}
    yield "06-inference", wild


@pytest.fixture(scope="module", autouse=True)
def _trained_once():
    """A run that several draws ask for, such as a chapter's own small one, is trained once."""
    several, made = live.several, {}

    def once(recipes):
        missing = [recipe for recipe in recipes if repr(recipe) not in made]
        made.update(zip(map(repr, missing), several(missing), strict=True))
        return [made[repr(recipe)] for recipe in recipes]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "several", once)
        yield


@pytest.mark.parametrize("chapter", SMALL)
def test_a_chapter_runs_with_any_value_that_it_allows(chapter):
    if chapter in LONG and DRAWS == 1:
        pytest.skip(LONGER)

    @settings(
        max_examples=DRAWS,
        phases=[Phase.generate],  # a failing example is told as it is: to shrink it would take long
        suppress_health_check=list(HealthCheck),
    )
    @given(st.fixed_dictionaries(strategies(chapter)))
    def draw(values):
        says_numbers(run(chapter, values))

    draw()


def says_numbers(shown: list[str]) -> None:
    """No sentence, table or result of a page holds what is no number."""
    lines = (line for text in shown for line in text.splitlines())
    assert not [line for line in lines if NO_NUMBER.search(line)]


@pytest.mark.parametrize(("chapter", "values"), list(known()), ids=lambda value: str(value)[:16])
def test_values_that_once_broke_a_chapter(chapter, values):
    if (chapter in LONG or chapter[:2] in ("01", "02", "06")) and DRAWS == 1:
        pytest.skip(LONGER)
    says_numbers(run(chapter, values))


@pytest.mark.skipif(DRAWS == 1, reason=LONGER)
@pytest.mark.parametrize("chapter", ["08-mnist", "09-inception"])
@pytest.mark.parametrize("evaluations", [1, 2], ids=["at once", "later"])
def test_a_page_says_which_of_its_runs_diverged(monkeypatch, chapter, evaluations):
    """No rate that is allowed makes these networks diverge, so the runs are cut by hand."""

    def cut(curve):
        return curve | {key: curve[key][:evaluations] for key in ("steps", "values")}

    def diverging(recipes):
        return [
            replace(
                run,
                curves={name: cut(curve) for name, curve in run.curves.items()},
                manifest=run.manifest | {"diverged_at": 90},
            )
            for run in several(recipes)
        ]

    several = live.several
    # the page's own runs, and not the small ones that it always trains
    shown = {"seeds": 1} if chapter == "08-mnist" else {"live_seeds": 1}
    values = {"source": "live", "steps": 107 if chapter == "08-mnist" else 12} | shown
    monkeypatch.setattr(
        live, "several", lambda of: (diverging if of[0].steps == values["steps"] else several)(of)
    )
    pages = run(chapter, values)
    says_numbers(pages)
    assert any("Diverged, and ended there: " in text for text in pages)


def test_ranges_are_the_chapters_own():
    drawn = strategies("03-whitening")
    assert list(drawn) == ["seed", "features", "condition", "steps", "batches", "timed"]
    with pytest.raises(parameters.ParameterError):
        run("03-whitening", {"features": 1})


def test_an_assertion_that_breaks_is_told_with_what_it_found(monkeypatch):
    broken = [
        ("parameters", True, "seed: int = 0  # a seed"),
        ("check", False, "p = seed"),
        ("result", False, "assert p < 3"),
    ]
    monkeypatch.setitem(globals(), "cells", lambda _: broken)
    with pytest.raises(AssertionError, match=r"does not hold: p < 3\s+p = 7"):
        run("any", {"seed": 7})
