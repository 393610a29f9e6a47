"""Parts of chapters: predictions whose answer can be checked, folds for the curious."""

import pytest
from tiny_books import markdown, notebook

from bnkit.book import parts

CHOICE = """\
::::{admonition} Before you read on: which?
:class: prediction

- this
- that

:::{dropdown} Answer
- No: the usual mistake.
- **Yes.** For a reason.
:::
::::
"""
NUMBER = """\
Text.

::::{admonition} Before you read on: how much?
:class: prediction

:::{dropdown} Answer
**about 0.7**, for a reason.
:::
::::

Text.
"""


def found(source: str, **metadata: object) -> list[str]:
    cell = {**markdown("a-cell", source), "metadata": metadata}
    rules = (parts.predictions, parts.curious)
    return [problem for rule in rules for _, problem in rule(notebook(cell))]


@pytest.mark.parametrize("source", [CHOICE, NUMBER, f"{CHOICE}\n{NUMBER}"])
def test_a_prediction_with_its_answer_passes(source):
    assert found(source) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (CHOICE.replace(":::{dropdown} Answer", ":::{note}"), "without {dropdown} Answer"),
        (CHOICE.replace("- that\n", ""), "1 choices, 2 reasons, 1 right"),
        (CHOICE.replace("**Yes.**", "Right."), "2 choices, 2 reasons, 0 right"),
        (CHOICE.replace("No: the", "**Yes.** The"), "2 choices, 2 reasons, 2 right"),
        (NUMBER.replace("**about 0.7**", "much"), "no number in bold type"),
        (CHOICE.replace("::::", ":::"), "no box of four colons"),
        (NUMBER.replace("prediction\n\n", "prediction\n"), "no box of four colons"),
    ],
)
def test_a_prediction_without_is_refused(source, said):
    assert any(said in problem for problem in found(source)), found(source)


FOLDED = {parts.COLLAPSED: True}


@pytest.mark.parametrize(
    ("source", "metadata", "said"),
    [
        ("### For the curious: why", FOLDED, None),
        ("### Why", {}, None),
        ("### For the curious: why", {}, "needs"),
        ("### Why", FOLDED, "only there"),
        ("Text.\n\n### For the curious: why", FOLDED, "must begin"),
        ("### For the curious: why\n\n### Then", FOLDED, "must begin"),
    ],
)
def test_the_curious_section_folds_in_both_places(source, metadata, said):
    problems = found(source, **metadata)
    assert [said in problem for problem in problems] == ([True] if said else [])
