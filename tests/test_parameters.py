"""Every value that a chapter allows is one that it runs with: no assertion of its own breaks.

hypothesis draws parameters from the ranges that the chapter itself declares, the costly ones from
their lower part, and runs the chapter's cells one after another. ``BNKIT_PARAMETER_DRAWS=10`` draws
more of them than `make test` does.
"""

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bnkit.page import assertions, parameters, prose, quantities

ROOT = Path(__file__).parents[1]
DRAWS = int(os.environ.get("BNKIT_PARAMETER_DRAWS", "1"))
# Up to where a parameter is drawn: it is the chapter's running time that grows from there
SMALL = {
    "00-in-two-minutes": {"examples": 3_000},
    "01-vanishing-gradients": {"depth": 20, "width": 60, "batch": 96, "seeds": 2, "steps": 60, "deepest": 8},
    "02-covariate-shift": {"depth": 20, "width": 60, "seeds": 1, "steps": 80},
    "03-whitening": {"features": 150, "steps": 1_000, "batches": 40},
    "04-the-transform": {"seeds": 2, "steps": 100, "width": 48},
    "05-backpropagation": {"batches": 10},
    "06-inference": {"seeds": 2, "steps": 150, "draws": 8_000, "checks": 6},
    "07-convolution": {"seeds": 2, "steps": 80, "images": 16, "maps": 2_000},
    "11-in-practice": {"seeds": 1, "steps": 60},
}  # fmt: skip


def cells(chapter: str) -> list[tuple[str, bool, str]]:
    """The code cells of a chapter: id, whether it is the one of the parameters, source."""
    content = json.loads((ROOT / "chapters" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    code = (cell for cell in content["cells"] if cell["cell_type"] == "code")
    return [
        (cell["id"], "parameters" in cell["metadata"].get("tags", []), "".join(cell["source"]))
        for cell in code
    ]


def run(chapter: str, values: dict) -> None:
    """Run all cells with these parameters, as papermill would; nothing is shown."""
    names = {"__name__": "__main__", assertions.CALLED: assertions.found}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(prose, "display", lambda *_, **__: None)
        patch.setattr(quantities, "_handed", {})  # a kernel of its own has handed over nothing yet
        for name, declares, source in cells(chapter):
            exec(assertions.compiled(source, name), names)
            if declares:
                told = "\n".join([parameters.INJECTED, *(f"{key} = ..." for key in values)])
                names |= values | {"In": ["", source, told, ""]}


def strategies(chapter: str) -> dict[str, st.SearchStrategy]:
    """What each parameter of a chapter may be, by the rules in its own check."""
    found, limits = {}, SMALL[chapter]

    def ranged(draw, make):
        def rule(low, high, *rest, **options):
            made = make(low, high, *rest, **options)
            found[id(made)] = lambda name: draw(low, min(high, max(low, limits.get(name, high))))
            return made

        return rule

    def chosen(*allowed):
        made = choice(*allowed)
        found[id(made)] = lambda name: st.sampled_from(allowed)
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


@pytest.mark.parametrize("chapter", SMALL)
def test_a_chapter_runs_with_any_value_that_it_allows(chapter):
    @settings(
        max_examples=DRAWS,
        phases=[Phase.generate],  # a failing example is told as it is: to shrink it would take long
        suppress_health_check=list(HealthCheck),
    )
    @given(st.fixed_dictionaries(strategies(chapter)))
    def draw(values):
        run(chapter, values)

    draw()


@pytest.mark.parametrize(("chapter", "values"), list(known()), ids=lambda value: str(value)[:16])
def test_values_that_once_broke_a_chapter(chapter, values):
    if chapter[:2] in ("01", "02", "06") and DRAWS == 1:
        pytest.skip("takes five to ten seconds: BNKIT_PARAMETER_DRAWS=2 runs it")
    run(chapter, values)


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
