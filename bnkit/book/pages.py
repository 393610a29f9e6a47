"""What a built site must look like: complete, readable for everybody, and loading nothing from
anywhere else.
"""

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from bnkit.book.gate import Finding

# Attributes by which a browser loads something without being asked.
LOADS = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "object": ("data",),
    "embed": ("src",),
    "link": ("href",),
}
LINKS_NOT_LOADED = {
    "canonical",
    "next",
    "prev",
    "search",
    "author",
    "copyright",
    "license",
    "index",
    "alternate",
}
TROUBLE = {"system-message", "problematic"}  # classes of what Sphinx could not make sense of


class Tag(NamedTuple):
    """One opening tag of a page."""

    name: str
    attributes: dict[str, str]
    # else it belongs to the theme: menus, and a second copy of the title for the printer
    in_article: bool


class _Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self._articles = 0

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self._articles += name == "article"
        self.tags.append(
            Tag(name, {key: value or "" for key, value in attributes}, bool(self._articles))
        )

    def handle_endtag(self, name: str) -> None:
        self._articles -= name == "article"


def check(html: Path, documents: list[str]) -> list[Finding]:
    """Every finding in the site at `html`, which should have a page for each of `documents`."""
    found = [
        Finding(each, "", "has no page")
        for each in documents
        if not (html / f"{each}.html").is_file()
    ]
    pages = {path: _tags(path) for path in sorted(html.rglob("*.html"))}
    ids = {
        path: {tag.attributes.get("id") or tag.attributes.get("name") for tag in tags}
        for path, tags in pages.items()
    }
    for path, tags in pages.items():
        name = path.relative_to(html).with_suffix("").as_posix()
        problems = [*_external(tags), *_links(path, tags, ids)]
        if name in documents:
            problems += [*_images(tags), *_ids(tags), *_headings(tags), *_trouble(tags)]
        found += [Finding(name, "", problem) for problem in problems]
    for path in sorted(html.rglob("*.css")):
        if match := re.search(
            r"""(?:@import\s*(?:url\()?|url\()\s*["']?(?:https?:)?//[^"')]+""",
            path.read_text(encoding="utf-8"),
        ):
            found.append(
                Finding(
                    path.relative_to(html).as_posix(), "", f"loads from another host: {match[0]}"
                )
            )
    return found


def _external(tags: list[Tag]) -> Iterator[str]:
    for name, attributes, _ in tags:
        if name == "link" and set(attributes.get("rel", "").split()) & LINKS_NOT_LOADED:
            continue
        for key in LOADS.get(name, ()):
            if re.match(r"\s*([a-z]+:)?//", attributes.get(key, "")):
                yield f"loads from another host: <{name} {key}={attributes[key]!r}>"


def _images(tags: list[Tag]) -> Iterator[str]:
    for name, attributes, _ in tags:
        if name == "img" and not attributes.get("alt", "").strip():
            yield f"shows an image without alt text: {attributes.get('src', '')[:80]}"


def _ids(tags: list[Tag]) -> Iterator[str]:
    counts = Counter(tag.attributes["id"] for tag in tags if "id" in tag.attributes)
    yield from (f"has the id {name!r} {count} times" for name, count in counts.items() if count > 1)


def _headings(tags: list[Tag]) -> Iterator[str]:
    levels = [
        int(tag.name[1]) for tag in tags if tag.in_article and re.fullmatch("h[1-6]", tag.name)
    ]
    if levels.count(1) != 1:
        yield f"has {levels.count(1)} titles"
    for above, here in pairwise(levels):
        if here > above + 1:
            yield f"leaves out a level of headings: h{here} after h{above}"


def _trouble(tags: list[Tag]) -> Iterator[str]:
    for _, attributes, _ in tags:
        if TROUBLE & set(attributes.get("class", "").split()):
            yield "shows something Sphinx could not make sense of"


def _links(path: Path, tags: list[Tag], ids: dict[Path, set[str | None]]) -> Iterator[str]:
    for name, attributes, _ in tags:
        href = attributes.get("href", "")
        parts = urlsplit(href)
        if name != "a" or not href or parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if target.is_dir():
            target /= "index.html"
        if not target.is_file():
            yield f"links to what is not there: {href}"
        elif parts.fragment and target in ids and unquote(parts.fragment) not in ids[target]:
            yield f"links to a place that is not there: {href}"


def _tags(path: Path) -> list[Tag]:
    collector = _Collector()
    collector.feed(path.read_text(encoding="utf-8"))
    return collector.tags
