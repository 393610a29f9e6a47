"""What a built site must be: complete, readable for everybody, and loading nothing from elsewhere."""

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
    "script": ("src",), "iframe": ("src",), "audio": ("src",), "embed": ("src",), "link": ("href",),
    "img": ("src", "srcset"), "source": ("src", "srcset"), "video": ("src", "poster"),
    "object": ("data",),
}  # fmt: skip
NOT_LOADED = {  # links that lead somewhere
    "canonical", "next", "prev", "search", "author", "copyright", "license", "index", "alternate",
}  # fmt: skip
CSS_LOADS = re.compile(r"""(?:@import\s*(?:url\()?|url\()\s*["']?(?:https?:)?//[^"')]+""")
TROUBLE = {"system-message", "problematic"}  # classes of what Sphinx could not make sense of


class Tag(NamedTuple):
    """One opening tag of a page."""

    name: str
    attributes: dict[str, str]
    in_article: bool  # else it is the theme's: menus, and a second title for the printer


class _Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self._articles = 0

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self._articles += name == "article"
        given = {key: value or "" for key, value in attributes}
        self.tags.append(Tag(name, given, bool(self._articles)))

    def handle_endtag(self, name: str) -> None:
        self._articles -= name == "article"


def check(html: Path, documents: list[str]) -> list[Finding]:
    """Every finding in the site at `html`, which should have a page for each of `documents`."""
    missing = [name for name in documents if not (html / f"{name}.html").is_file()]
    found = [Finding(name, "", "has no page") for name in missing]
    pages = {path: _tags(path) for path in sorted(html.rglob("*.html"))}
    place = lambda tag: tag.attributes.get("id") or tag.attributes.get("name")  # noqa: E731
    ids = {path: set(map(place, tags)) for path, tags in pages.items()}
    for path, tags in pages.items():
        name = path.relative_to(html).with_suffix("").as_posix()
        problems = [*_external(tags), *_links(path, tags, ids)]
        if name in documents:
            problems += [*_images(tags), *_ids(tags), *_headings(tags), *_trouble(tags)]
        found += [Finding(name, "", problem) for problem in problems]
    for path in sorted(html.rglob("*.css")):
        if match := CSS_LOADS.search(path.read_text(encoding="utf-8")):
            name, problem = path.relative_to(html), f"loads from another host: {match[0]}"
            found.append(Finding(name.as_posix(), "", problem))
    return found


def _external(tags: list[Tag]) -> Iterator[str]:
    for name, attributes, _ in tags:
        if name == "link" and set(attributes.get("rel", "").split()) & NOT_LOADED:
            continue
        for key in LOADS.get(name, ()):
            if re.match(r"\s*([a-z]+:)?//", attributes.get(key, "")):
                yield f"loads from another host: <{name} {key}={attributes[key]!r}>"


def _images(tags: list[Tag]) -> Iterator[str]:
    for name, attributes, _ in tags:
        if name == "img" and not attributes.get("alt", "").strip():
            yield f"shows an image without alt text: {attributes.get('src', '')[:80]}"
        if attributes.get("role") == "img" and not attributes.get("aria-label", "").strip():
            yield f"shows a drawing without a text for who cannot see it: <{name} role='img'>"


def _ids(tags: list[Tag]) -> Iterator[str]:
    counts = Counter(tag.attributes["id"] for tag in tags if "id" in tag.attributes)
    yield from (f"has the id {name!r} {count} times" for name, count in counts.items() if count > 1)


def _headings(tags: list[Tag]) -> Iterator[str]:
    names = [tag.name for tag in tags if tag.in_article]
    levels = [int(name[1]) for name in names if re.fullmatch("h[1-6]", name)]
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
