"""Which executed chapters may be published. Each rule is a small function that yields what it
found.

``errors`` and ``order`` say that the notebook ran; ``sources`` that it is the committed one; the
others keep out of a page what readers could not see, what differs from build to build, and what
does not belong to the public.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bnkit.book.normalise import is_injected
from bnkit.page.notebook import cells_of, source_of
from bnkit.page.prose import SITE

CELL_BYTES, CHAPTER_BYTES = 2_000_000, 12_000_000
IMAGES = ("image/png", "image/jpeg", "image/svg+xml", "image/gif")
PRIVATE = re.compile(
    r"""(?<![\w/.:)}\]<~])/(?!chapters/)[A-Za-z][\w.-]*/[\w.-][^\s"'<>)]*|\b[A-Z]:\\\w+|(?<!\S)~/\w+"""
)
MEMORY = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
ADDRESS = re.compile(
    r"""https?://(?!(?:www\.w3\.org|purl\.org|creativecommons\.org/ns)\b)[^\s"'<>)]*"""
)
GLUE = re.compile(
    r"(?:\{glue(?::\w+)?\}`|^\s*:{3,}\{glue(?::\w+)?\}\s+|^\s*`{3,}\{glue(?::\w+)?\}\s+)([^`\n]+)",
    re.MULTILINE,
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


Rule = Callable[[Chapter], Iterator[tuple[str, str]]]  # yields (cell id, problem)


def check(chapters: list[Chapter], pages: Mapping[str, str]) -> list[Finding]:
    """Every finding in executed chapters, and in the text of the Markdown `pages` (by document)
    that quote them."""
    found = [
        Finding(each.document, *what) for each in chapters for rule in RULES for what in rule(each)
    ]
    return found + list(_figure_names(chapters)) + list(_quoted(chapters, pages))


# One chapter


def errors(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """No cell raised anything."""
    for cell in _cells(chapter):
        if "papermill-error-cell-tag" in cell["metadata"].get("tags", []):
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
    cells = cells_of(chapter.executed)
    for cell in cells:
        if is_injected(cell):
            yield cell["id"], "sets other parameters than the committed defaults"
    ran = {cell["id"]: source_of(cell) for cell in cells if not is_injected(cell)}
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
    """A cell that shows an image says its name, its caption, and what is to be seen for those who
    cannot."""
    for cell, output in _outputs(chapter):
        if any(kind in output.get("data", {}) for kind in IMAGES):
            about = cell["metadata"].get("mystnb", {})
            wanted = {
                "mystnb.figure.name": about.get("figure", {}).get("name"),
                "mystnb.figure.caption": about.get("figure", {}).get("caption"),
                "mystnb.image.alt": about.get("image", {}).get("alt"),
            }
            if missing := [key for key, value in wanted.items() if not value]:
                yield cell["id"], f"shows an image without {', '.join(missing)} in its metadata"


def private(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """No output tells where or for whom it was made, points into the network, or shows an address
    in memory."""
    for cell, output in _outputs(chapter):
        for text in _texts(output):
            for pattern, what in (
                (PRIVATE, "an absolute path"),
                (MEMORY, "an address in memory, another one in each build"),
                (ADDRESS, "an address in the network"),
            ):
                if match := pattern.search(text):
                    yield cell["id"], f"shows {what}: {match[0]}"


def size(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """Outputs are of a size that a phone loads."""
    total = 0
    for cell in _code(chapter):
        here = sum(
            len(text) for output in cell["outputs"] for text in _texts(output, everything=True)
        )
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


def glued_once(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """A name stands for one number."""
    for name, count in Counter(_glued(chapter)).items():
        if count > 1:
            yield "", f"glues {name!r} {count} times"


RULES: tuple[Rule, ...] = (
    errors,
    order,
    sources,
    stderr,
    figures,
    private,
    size,
    widgets,
    glued_once,
)


# The whole book


def _figure_names(chapters: list[Chapter]) -> Iterator[Finding]:
    """A name, by which text refers to a figure, belongs to one figure of the book."""
    seen: dict[str, str] = {}
    for chapter in chapters:
        for cell in _cells(chapter):
            if name := cell["metadata"].get("mystnb", {}).get("figure", {}).get("name"):
                if name in seen:
                    yield Finding(
                        chapter.document,
                        cell["id"],
                        f"names its figure {name!r} as {seen[name]} does",
                    )
                seen[name] = chapter.document


def _quoted(chapters: list[Chapter], pages: Mapping[str, str]) -> Iterator[Finding]:
    """Every number that text quotes exists, under a name that is found from every page."""
    known = {
        f"/{chapter.document}.ipynb::{name}" for chapter in chapters for name in _glued(chapter)
    }
    quoting = [
        (each.document, text) for each in chapters for text in (_prose(each), *_reports(each))
    ]
    for document, text in [*pages.items(), *quoting]:
        for key in GLUE.findall(text):
            path, _, name = key.strip().partition("::")
            if not path.startswith("/") or not name:
                yield Finding(
                    document,
                    "",
                    f"quotes {key!r}; write it from the root, /chapters/NAME.ipynb::{key}",
                )
            elif f"{path}::{name.split(':')[0]}" not in known:
                yield Finding(document, "", f"quotes {key!r}, which no chapter glues")


# Reading notebooks


def _cells(chapter: Chapter) -> list[dict]:
    return cells_of(chapter.executed)


def _code(chapter: Chapter) -> list[dict]:
    return [cell for cell in cells_of(chapter.executed) if cell["cell_type"] == "code"]


def _outputs(chapter: Chapter) -> Iterator[tuple[dict, dict]]:
    return ((cell, output) for cell in _code(chapter) for output in cell["outputs"])


def _glued(chapter: Chapter) -> list[str]:
    stored = (
        output.get("metadata", {}).get("scrapbook", {}).get("name")
        for _, output in _outputs(chapter)
    )
    return [name for name in stored if name]


def _reports(chapter: Chapter) -> Iterator[str]:
    return (
        _text(output["data"][SITE])
        for _, output in _outputs(chapter)
        if SITE in output.get("data", {})
    )


def _prose(chapter: Chapter) -> str:
    return "\n\n".join(
        source_of(cell) for cell in cells_of(chapter.executed) if cell["cell_type"] == "markdown"
    )


def _texts(output: dict, everything: bool = False) -> Iterable[str]:
    """The texts of an output that readers see; with `everything` also those that encode an
    image."""
    if output["output_type"] == "stream":
        return [_text(output["text"])]
    data = output.get("data", {})
    return [
        value if isinstance(value, str) else _text(value)
        for kind, value in data.items()
        if everything or kind.startswith("text/") or kind == "image/svg+xml"
    ]


def _text(value: object) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


def read(document: str, committed: Path, executed: Path) -> Chapter:
    """Read both versions of a chapter."""
    return Chapter(document, json.loads(committed.read_bytes()), json.loads(executed.read_bytes()))
