"""From matplotlib's SVG to one that follows the theme of the page that it stands in.

Colours become variables, text keeps the font of the page, ids are few and short, numbers are as
long as a screen can show: two drawings of one figure are equal byte for byte.
"""

import re
from xml.etree import ElementTree

from bnkit.page.figures import PALETTE, variable

FONTS = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
PLATE = "plate"  # the class of what lies below a figure that stands alone
COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")
REFERENCE = re.compile(r"url\(#([^)]+)\)")
LONG = re.compile(r"-?\d*\.\d{3,}(?!\d*e)")
TONES = {}  # by a tone as it is drawn: the variable for lines, and the one for words
for _name, _tone in PALETTE.items():
    for _drawn in (_tone.light, _tone.light_text):
        TONES[_drawn] = (variable(_name), variable(_name, text=True))

ElementTree.register_namespace("", SVG.strip("{}"))


def themed(svg: str, width: int, height: int) -> str:
    """An SVG as matplotlib writes it, for a page, `width` x `height` pixels where it stands alone.

    A colour outside of ``PALETTE`` stays as it is.
    """
    root = ElementTree.fromstring(svg)
    for apart in (root.find(f"{SVG}metadata"), root.find(f"{SVG}defs[{SVG}style]")):
        if apart is not None:  # the style would be that of the whole page
            root.remove(apart)
    root.attrib.update({"width": str(width), "height": str(height), "font-family": FONTS})
    root.attrib.update({"fill": variable("ink"), "stroke-linejoin": "round"})
    plate = next(node for node in root.iter() if node.get("id") == "patch_1")
    plate.set("class", PLATE)
    for node in root.iter():
        _plain(node)
    _name_again(root)
    return ElementTree.tostring(root, encoding="unicode")


def _plain(node: ElementTree.Element) -> None:
    """One element with themed colours and short numbers, without space around it."""
    if not (node.text or "").strip():
        node.text = None
    node.tail = None
    if (target := node.attrib.pop(f"{XLINK}href", None)) is not None:
        node.set("href", target)
    words = node.tag in (f"{SVG}text", f"{SVG}tspan")
    for key, value in node.attrib.items():
        if key in ("d", "x", "y", "width", "height") or (
            key == "transform" and "scale" not in value
        ):
            value = LONG.sub(_short, value)
        elif key == "style":
            value = _style(value, words)
        node.set(key, value)
    transform = node.get("transform", "")
    if transform.startswith("rotate(-0 "):
        del node.attrib["transform"]


def _short(number: re.Match) -> str:
    return f"{round(float(number[0]), 2) + 0:g}"


def _style(style: str, words: bool) -> str:
    """A style attribute with variables for colours; the font is left to the page."""
    kept = [
        part for part in style.split("; ") if not part.startswith("font-family") or "Mono" in part
    ]
    tone = lambda drawn: TONES.get(drawn[0].lower(), (drawn[0],) * 2)[words]  # noqa: E731
    return COLOUR.sub(tone, "; ".join(kept))


def _name_again(root: ElementTree.Element) -> None:
    """Keep ids that something refers to, and number them."""
    used = {}
    for node in root.iter():
        for value in node.attrib.values():
            for name in [*REFERENCE.findall(value), *re.findall(r"^#(.+)$", value)]:
                used.setdefault(name, f"i{len(used)}")
    for node in root.iter():
        if (name := node.attrib.pop("id", None)) in used:
            node.set("id", used[name])
        for key, value in node.attrib.items():
            value = REFERENCE.sub(lambda found: f"url(#{used[found[1]]})", value)
            node.set(key, f"#{used[value[1:]]}" if key == "href" and value[0] == "#" else value)
