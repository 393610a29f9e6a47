"""The parts that chapters are made of besides text and code; JupyterLab shows them, too.

A *prediction* hides its answer, a *mistake* is often made, three things are to be *remembered*::

    ::::{admonition} Before you read on: which examples get the most noise?
    :class: prediction

    - those near the mean
    - those far from it

    :::{dropdown} Answer
    - These get the least: ...
    - **Yes.** ...
    :::
    ::::

Of several choices the answer has a line for each, "**Yes.** ..." for the right one; of a number it
has the number in bold type, first, "**11**" or "**about 0.7**", which is right within 5 %. Boxes
``:class: mistake`` say first what is right. A section whose heading begins "For the curious:" is
folded, on the page and, by its cell's metadata, in JupyterLab.

Teaching cells that stand one after the other and say the same in several libraries are tabs on the
page: tags ``tab:NumPy`` and ``tab:PyTorch``.
"""

import re
from collections.abc import Iterator
from itertools import groupby

from bnkit.page.notebook import TEACHING, cells_of, headings_of, kind_of, source_of, tab_of

CURIOUS = "For the curious"
COLLAPSED = "jp-MarkdownHeadingCollapsed"  # JupyterLab's own
PREDICTION = re.compile(r"(?ms)^(:{4,})\{admonition\}([^\n]*)\n:class: prediction\n\n(.*?)^\1$")
ANSWER = re.compile(r"(?ms)^(:{3,})\{dropdown\}[^\n]*\n(.*?)^\1$")
CHOICE = re.compile(r"(?m)^- (.*)$")
NUMBER = re.compile(r"\*\*(about )?[+−-]?\d[\d,.]*\*\*")


def predictions(notebook: dict) -> Iterator[tuple[str, str]]:
    """A prediction hides an answer that an answer given can be held against."""
    for cell in _texts(notebook):
        source = source_of(cell)
        boxes = [box[2] for box in PREDICTION.findall(source)]
        if len(boxes) != source.count(":class: prediction"):
            yield (
                cell["id"],
                "has a prediction that is no box of four colons, title, class and empty line",
            )
        for box in boxes:
            yield from ((cell["id"], problem) for problem in _unanswered(box))


def _unanswered(box: str) -> Iterator[str]:
    answer = ANSWER.search(box)
    if not answer:
        yield "has a prediction without {dropdown} Answer"
        return
    choices, reasons = CHOICE.findall(box[: answer.start()]), CHOICE.findall(answer[2])
    right = [reason for reason in reasons if reason.startswith("**Yes.**")]
    if choices and (len(choices) != len(reasons) or len(right) != 1):
        counts = f"{len(choices)} choices, {len(reasons)} reasons, {len(right)} right"
        yield f"has a prediction with {counts}; each choice has its reason, and one begins **Yes.**"
    if not choices and not NUMBER.search(answer[2]):
        yield "has a prediction without choices, whose answer has no number in bold type"


def curious(notebook: dict) -> Iterator[tuple[str, str]]:
    """JupyterLab folds what the page folds: the cell of such a section begins with its heading."""
    for cell in _texts(notebook):
        wanted = [text for _, text in headings_of(cell) if text.startswith(CURIOUS)]
        first = re.match(rf"#+ {CURIOUS}: \S", source_of(cell))
        if wanted and not (first and len(headings_of(cell)) == 1):
            yield cell["id"], f"must begin with its one heading, '{CURIOUS}: ...'"
        elif bool(wanted) != bool(cell["metadata"].get(COLLAPSED)):
            yield (
                cell["id"],
                f'needs "{COLLAPSED}": true where it begins "{CURIOUS}", and only there',
            )


def tabs(notebook: dict) -> Iterator[tuple[str, str]]:
    """Tabs teach, and stand beside each other under different labels."""
    for is_tab, group in groupby(cells_of(notebook), lambda cell: tab_of(cell) is not None):
        cells = list(group) if is_tab else []
        labels = [tab_of(cell) for cell in cells]
        if is_tab and ("" in labels or len(set(labels)) < max(2, len(labels))):
            told = ", ".join(map(repr, labels))
            yield (
                cells[0]["id"],
                f"begins tabs {told}; it takes two or more, under different labels",
            )
        yield from (
            (cell["id"], "is a tab and does not teach")
            for cell in cells
            if kind_of(cell) != TEACHING
        )


def _texts(notebook: dict) -> list[dict]:
    return [cell for cell in cells_of(notebook) if cell["cell_type"] == "markdown"]
