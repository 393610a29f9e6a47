"""What Sphinx has to be taught for this book: local mathematics, our style sheet, downloads that
download.

What the ledger of claims adds to the pages is in ``marks``.
"""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from sphinx.application import Sphinx

from bnkit.book import marks, rooms

# The variant with every extension inside: others fetch \boldsymbol or \cancel from files that are
# not there.
MATHJAX = "mathjax/tex-svg-full.js"
THEBE = re.compile(
    r"\s*<script>const THEBE_JS_URL.*?</script>|\s*<script[^>]*sphinx-thebe[.]js[^>]*></script>",
    re.S,
)
NOTEBOOK_LINK = re.compile(r'(<a href="[^"]*_sources/[^"]+")')


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.connect("builder-inited", add_style)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", mend_pages)
    marks.setup(app)
    rooms.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_style(app: Sphinx) -> None:
    """Put ``_static/book.css`` of this package on every page."""
    app.config.html_static_path.append(str(Path(__file__).with_name("_static")))
    app.add_css_file("book.css", priority=900)


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Copy the one script that formulas need from the package that carries it: 2 MB of its 24."""
    if exception is None:
        # its name has hyphens: no import statement reaches it
        package = find_spec("sphinx-mathjax-offline")
        target = Path(app.outdir, "_static", MATHJAX)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(package.submodule_search_locations[0], "static", MATHJAX), target)


def mend_pages(app: Sphinx, exception: Exception | None) -> None:
    """Links to a page's notebook download it; without this a browser shows its JSON. And no loader
    of code in pages.

    The theme brings that loader along, twice, which is an error in every browser's console, and
    would fetch it from elsewhere.
    """
    if exception is None:
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text(encoding="utf-8")
            if (mended := THEBE.sub("", NOTEBOOK_LINK.sub(r"\1 download", text))) != text:
                page.write_text(mended, encoding="utf-8")
