"""Figures on the site: SVGs inside the page, so that they take its theme, its font, its width.

A notebook holds a figure as an image, which sees nothing of the page around it. For Sphinx, and
only for it, such an output becomes HTML with both layouts, the wide one and that for phones; the
notebook that readers download stays as it is.
"""

import json
import re
from html import escape
from pathlib import Path

from bnkit.page.figures import NARROW
from bnkit.page.notebook import Figure, cells_of, figure_of

SVG = "image/svg+xml"
PLACE = re.compile(r'(\bid="|\bhref="#|url\(#)(?=i\d)')
FIXED = re.compile(r"""\b(?:fill|stroke)(?::\s*|=")(#[0-9a-fA-F]{3,8})\b""")
SIZE = re.compile(r"font-size: ([\d.]+)px")
VIEW = re.compile(r'viewBox="0 0 ([\d.]+) ')
SCREEN = 343  # pixels that a phone 390 pixels wide leaves for a figure
SIDES = re.compile(r"\b(?:left|right|middle)\b", re.IGNORECASE)


def inlined(notebook: str) -> str:
    """The text of a notebook whose figures are HTML instead of images."""
    content = json.loads(notebook)
    for cell in cells_of(content):
        for output in cell.get("outputs", ()):
            if SVG in output.get("data", {}) and (about := figure_of(cell)):
                output["data"] = {"text/html": html(output["data"], about)}
    return json.dumps(content)


def html(data: dict, about: Figure) -> str:
    """An output that holds a figure as HTML; each layout tells what is to be seen, one is shown."""
    layouts = {"wide": data[SVG]} | ({"narrow": data[NARROW]} if NARROW in data else {})
    only = {} if NARROW in data else {"wide": "only"}
    drawn = (
        _layout("".join(svg), f"{about.name}-{layout}", only.get(layout, layout), about.alt)
        for layout, svg in layouts.items()
    )
    sides = " sides" if NARROW in data and SIDES.search(about.caption) else ""
    return f'<div class="drawing{sides}">{"".join(drawn)}</div>'


def from_file(path: Path, alt: str) -> str | None:
    """A drawing of ours as HTML, the narrow one beside it if it is there; None for another's SVG."""
    svg, phone = path.read_text(encoding="utf-8"), path.with_stem(f"{path.stem}-narrow")
    if 'class="plate"' not in svg:
        return None
    layouts = {SVG: svg} | ({NARROW: phone.read_text(encoding="utf-8")} if phone.is_file() else {})
    return html(layouts, Figure(path.stem, "", alt))


def _layout(svg: str, name: str, kind: str, alt: str) -> str:
    """One SVG with ids that no other figure of the page has, a class and a text alternative."""
    told = f'<svg class="{kind}" role="img" aria-label="{escape(alt)}" '
    return PLACE.sub(rf"\g<1>{name}-", svg[svg.index("<svg") :]).replace("<svg ", told, 1)


def smallest_label(data: dict, screen: int = SCREEN) -> float:
    """The height in pixels of the smallest words of a figure, `screen` pixels wide; inf: none."""
    svg = "".join(data.get(NARROW, data[SVG]))
    scale = min(screen / float(VIEW.search(svg)[1]), 100 / 72)
    return scale * min(map(float, SIZE.findall(svg)), default=float("inf"))


def fixed_colours(svg: str) -> list[str]:
    """The colours of an SVG that would be the same on a light page and on a dark one."""
    return sorted(set(FIXED.findall(svg)))
