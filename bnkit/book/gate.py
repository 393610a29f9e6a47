"""Which executed chapters may be published. Each rule is a small function that yields problems.

``errors`` and ``order`` say that the notebook ran; ``sources`` that it is the committed one; the
others keep out what readers could not see, what is not for the public, and what changes by itself.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bnkit.book import spelling
from bnkit.book.figures import SVG, fixed_colours, smallest_label
from bnkit.page.figures import NARROW
from bnkit.page.notebook import (
    Figure,
    cells_of,
    figure_of,
    is_injected,
    source_of,
    tags_of,
    text_of,
)
from bnkit.page.prose import SITE
from bnkit.page.quantities import ResultError, curves_in, found_in

CELL_BYTES, CHAPTER_BYTES = 2_000_000, 12_000_000
FIGURE_KEYS = ("mystnb.figure.name", "mystnb.figure.caption", "mystnb.image.alt")
LEGIBLE = 8  # pixels
IMAGES = ("image/png", "image/jpeg", SVG, "image/gif")
PATH = r"""(?<![\w/.:)}\]<~])/(?!chapters/)[A-Za-z][\w.-]*/[\w.-][^\s"'<>)]*"""
ADDRESS = r"""https?://(?!(?:www\.w3\.org|purl\.org|creativecommons\.org/ns)\b)[^\s"'<>)]*"""
PRIVATE = {
    rf"{PATH}|\b[A-Z]:\\\w+|(?<!\S)~/\w+": "an absolute path",
    r"\bat 0x[0-9a-fA-F]{6,}": "an address in memory, another one in each build",
    ADDRESS: "an address in the network",
}
INSIDE = re.compile(r"data:image/[a-z]+;base64,[\w+/=\s]+")  # a picture inside an SVG, as letters
GLUE = re.compile(
    r"(?:\{glue(?::\w+)?\}`|^\s*(?::{3,}|`{3,})\{glue(?::\w+)?\}\s+)([^`\n]+)", re.MULTILINE
)


class Chapter(NamedTuple):
    """One chapter before and after execution."""

    document: str
    committed: dict
    executed: dict


class Finding(NamedTuple):
    """What stands between a chapter and its readers."""

    document: str
    cell: str  # the id of the cell, or ""
    problem: str

    def __str__(self) -> str:
        return f"{self.document}{f', cell {self.cell!r}' if self.cell else ''}: {self.problem}"


def check(chapters: list[Chapter], pages: Mapping[str, str]) -> list[Finding]:
    """Every finding in executed chapters, and in Markdown `pages` (text by document)."""
    problems = [
        (chapter.document, *what)
        for chapter in chapters
        for rule in RULES
        for what in rule(chapter)
    ]
    names = figure_names((chapter.document, _cells(chapter)) for chapter in chapters)
    return [Finding(*problem) for problem in problems] + [*names, *_quoted(chapters, pages)]


# One chapter. Each rule yields (cell id, problem).


def errors(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """No cell raised anything."""
    for cell in _cells(chapter):
        if "papermill-error-cell-tag" in tags_of(cell):
            yield cell["id"], "is the mark of a failed run"
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                yield cell["id"], f"raised {output['ename']}: {output['evalue']}"


def order(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """Every code cell ran once, from the first to the last."""
    for position, cell in enumerate(_code(chapter), start=1):
        if cell["execution_count"] != position:
            yield cell["id"], f"is code cell {position} but ran as number {cell['execution_count']}"


def sources(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """What ran is what is committed, with the parameters that are committed."""
    for cell in filter(is_injected, _cells(chapter)):
        yield cell["id"], "sets other parameters than the committed defaults"
    ran = {cell["id"]: source_of(cell) for cell in _cells(chapter) if not is_injected(cell)}
    committed = {cell["id"]: source_of(cell) for cell in cells_of(chapter.committed)}
    if list(ran) != list(committed):
        yield "", "has other cells than the committed notebook"
    for name in ran.keys() & committed.keys():
        if ran[name] != committed[name]:
            yield name, "differs from the committed notebook"


def stderr(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """Nothing was written to stderr: a warning is a thing to repair, not to publish."""
    for cell, output in _outputs(chapter):
        if output["output_type"] == "stream" and output["name"] == "stderr":
            yield cell["id"], f"wrote to stderr: {_text(output['text']).strip()[:500]}"


def figures(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """A cell that shows an image gives its name, its caption, and a text for who cannot see it."""
    for cell, output in _outputs(chapter):
        if any(kind in output.get("data", {}) for kind in IMAGES):
            said = zip(FIGURE_KEYS, figure_of(cell) or Figure(), strict=True)
            if missing := [key for key, value in said if not value]:
                yield cell["id"], f"shows an image without {', '.join(missing)} in its metadata"


def colours(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """A figure's colours are those that a page can change with its theme."""
    for cell, output in _outputs(chapter):
        if fixed := fixed_colours(_text(output.get("data", {}).get(SVG, ""))):
            remedy = "take one of bnkit.plots.colours, or give bnkit.page.figures another"
            yield (
                cell["id"],
                f"draws in {', '.join(fixed)}, on light and dark pages alike; {remedy}",
            )


def legible(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """The words of a figure can be read on a phone."""
    for cell, output in _outputs(chapter):
        data = output.get("data", {})
        if SVG in data and (size := smallest_label(data)) < LEGIBLE:
            wide = "" if NARROW in data else ", for it has no narrow layout: draw it in bnkit.plots"
            yield cell["id"], f"has words {size:.1f} pixels high on a phone, at least 8{wide}"


def private(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """No output tells where it was made, points into the network, or shows places in memory."""
    for cell, output in _outputs(chapter):
        for text in _texts(output):
            for pattern, what in PRIVATE.items():
                if match := re.search(pattern, text):
                    yield cell["id"], f"shows {what}: {match[0]}"


def size(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """Outputs are of a size that a phone loads."""
    total = 0
    for cell in _code(chapter):
        here = sum(len(text) for output in cell["outputs"] for text in _texts(output, images=True))
        total += here
        if here > CELL_BYTES:
            yield cell["id"], f"has outputs of {here / 1e6:.1f} MB; at most {CELL_BYTES / 1e6:.0f}"
    if total > CHAPTER_BYTES:
        yield "", f"has outputs of {total / 1e6:.1f} MB; at most {CHAPTER_BYTES / 1e6:.0f}"


def widgets(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """No output runs a program in the reader's browser."""
    for cell, output in _outputs(chapter):
        kinds = output.get("data", {})
        if "application/vnd.jupyter.widget-view+json" in kinds or "application/javascript" in kinds:
            yield cell["id"], "shows a widget or a script, which a static page cannot"
        if "<script" in _text(kinds.get("text/html", "")):
            yield cell["id"], "shows HTML with a script"


def spelt(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """What cells show is spelt as the text around it."""
    for cell, output in _outputs(chapter):
        data = {kind: _text(value) for kind, value in output.get("data", {}).items()}
        yield from ((cell["id"], problem) for problem in spelling.in_output(data))


def glued_once(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """A name stands for one number."""
    for name, count in Counter(_glued(chapter)).items():
        if count > 1:
            yield "", f"glues {name!r} {count} times"


def results(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """What it hands over to programs can be read, and a name stands for one quantity."""
    try:
        found_in(_cells(chapter))
        curves_in(_cells(chapter))
    except ResultError as error:
        yield "", str(error)


RULES = (
    errors,
    order,
    sources,
    stderr,
    figures,
    colours,
    legible,
    private,
    size,
    widgets,
    spelt,
    glued_once,
    results,
)


# The whole book


def figure_names(chapters: Iterable[tuple[str, list[dict]]]) -> Iterator[Finding]:
    """A name, by which text refers to a figure, belongs to one chapter; `chapters` are pairs
    (document, cells). Within a chapter ``structure`` looks."""
    owner: dict[str, str] = {}
    for document, cells in chapters:
        for cell in cells:
            name = (figure_of(cell) or Figure()).name
            if name and owner.setdefault(name, document) != document:
                problem = f"names its figure {name!r} as {owner[name]} does"
                yield Finding(document, cell["id"], problem)


def _quoted(chapters: list[Chapter], pages: Mapping[str, str]) -> Iterator[Finding]:
    """Every number that text quotes exists, under a name that is found from every page."""
    known = {f"/{one.document}.ipynb::{name}" for one in chapters for name in _glued(one)}
    texts = [(one.document, text) for one in chapters for text in _prose(one)]
    keys = [
        (document, key) for document, text in [*pages.items(), *texts] for key in GLUE.findall(text)
    ]
    for document, key in keys:
        path, _, name = key.strip().partition("::")
        if not path.startswith("/") or not name:
            remedy = f"write it from the root, /chapters/NAME.ipynb::{key}"
            yield Finding(document, "", f"quotes {key!r}; {remedy}")
        elif f"{path}::{name.split(':')[0]}" not in known:
            yield Finding(document, "", f"quotes {key!r}, which no chapter glues")


# Reading notebooks


def _cells(chapter: Chapter) -> list[dict]:
    return cells_of(chapter.executed)


def _code(chapter: Chapter) -> list[dict]:
    return [cell for cell in _cells(chapter) if cell["cell_type"] == "code"]


def _outputs(chapter: Chapter) -> Iterator[tuple[dict, dict]]:
    return ((cell, output) for cell in _code(chapter) for output in cell["outputs"])


def _glued(chapter: Chapter) -> list[str]:
    return [name for _, output in _outputs(chapter) if (name := glued_name(output))]


def glued_name(output: dict) -> str | None:
    """The name under which an output hands over a number, if it is one of these."""
    return output.get("metadata", {}).get("scrapbook", {}).get("name")


def _prose(chapter: Chapter) -> list[str]:
    """What is text on the site: the Markdown cells, and the reports that cells made for it."""
    shown = (output.get("data", {}) for _, output in _outputs(chapter))
    return [text_of(_cells(chapter)), *(_text(data[SITE]) for data in shown if SITE in data)]


def _texts(output: dict, images: bool = False) -> Iterable[str]:
    """The texts of an output that readers see; with `images` also those that encode an image."""
    if output["output_type"] == "stream":
        return [_text(output["text"])]
    readable = lambda kind: kind.startswith("text/") or kind == SVG  # noqa: E731
    data = output.get("data", {}).items()
    texts = [_text(value) for kind, value in data if images or readable(kind)]
    return texts if images else [INSIDE.sub("", text) for text in texts]


def _text(value: object) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


def read(document: str, committed: Path, executed: Path) -> Chapter:
    """Read both versions of a chapter."""
    return Chapter(document, json.loads(committed.read_bytes()), json.loads(executed.read_bytes()))
