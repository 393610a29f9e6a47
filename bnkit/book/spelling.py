"""One spelling for each word of the text: normalize as the paper has it, and so all its kind.

Held in what is written, notebooks and pages, and in what cells print.
"""

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
# the same in HTML, its tags, and pictures
QUOTED_IN_HTML = re.compile(r"(?s)<(code|pre|style|svg)\b.*?</\1>|<[^>]*>|“[^”]*”")


def spelling(notebook: dict) -> Iterator[tuple[str, str]]:
    """Text and captions write -ize, and "batch normalization" in small letters."""
    for cell in cells_of(notebook):
        figure = figure_of(cell)
        text = source_of(cell) if cell["cell_type"] == "markdown" else ""
        for problem in in_text(text + " ".join(figure or ())):
            yield cell["id"], problem


def in_text(text: str, quoted: re.Pattern = QUOTED) -> Iterator[str]:
    """The words of a text in Markdown, or another of whose parts some are `quoted`, to be mended."""
    for rule in (IN_S, CAPITALS):
        for word in rule.findall(quoted.sub("", text)):
            yield f"writes {word!r}; the book writes {_ours(word)!r}"


def in_output(data: dict[str, str]) -> Iterator[str]:
    """The same of what a cell shows, its forms by MIME type; HTML only where it is the only one."""
    if "text/markdown" in data:
        yield from in_text(data["text/markdown"])
    else:
        yield from in_text(data.get("text/html", ""), QUOTED_IN_HTML)


def _ours(word: str) -> str:
    return re.sub(r"is(?=e[drs]?$|ing$|ations?$|ers$)", "iz", word.lower())
