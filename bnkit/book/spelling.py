"""One spelling for each word of the text: normalize as the paper has it, and so all its kind."""

import re
from collections.abc import Iterator

from bnkit.page.notebook import cells_of, figure_of, source_of

STEMS = (
    "central|character|digit|emphas|general|initial|maxim|minim|normal|optim|organ|penal|quant|real"
    "|recogn|regular|special|stabil|standard|summar|util|visual"
)
IN_S = re.compile(rf"\b[a-z]*(?:{STEMS})is(?:e[drs]?|ing|ations?|ers)\b", re.IGNORECASE)
# a name with capitals only where a sentence or a title begins
CAPITALS = re.compile(r"(?<=[a-z,;:] )Batch Normali[sz]ation")
# Python's names, addresses and quotations keep their own
QUOTED = re.compile(r"(?s)```.*?```|`[^`]*`|\]\([^)]*\)|“[^”]*”")


def spelling(notebook: dict) -> Iterator[tuple[str, str]]:
    """Text and captions write -ize, and "batch normalization" in small letters."""
    for cell in cells_of(notebook):
        figure = figure_of(cell)
        text = source_of(cell) if cell["cell_type"] == "markdown" else ""
        text += " ".join(figure or ())
        for rule in (IN_S, CAPITALS):
            for word in rule.findall(QUOTED.sub("", text)):
                yield cell["id"], f"writes {word!r}; the book writes {_ours(word)!r}"


def _ours(word: str) -> str:
    return re.sub(r"is(?=e[drs]?$|ing$|ations?$|ers$)", "iz", word.lower())
