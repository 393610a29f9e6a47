"""What Sphinx has to be taught for this book: local mathematics, figures, style, links to claims.

JupyterLab follows ``06-inference.ipynb#cell-id=NAME`` to the cell with the id NAME, so cells that
are tagged with a claim bear just that as their id on the site, ``cell-id=NAME``: one link serves
both. So do the rows of the ledger, ``cell-id=c27``, where JupyterLab has cells (``claim_cells``).
Verdicts get classes, which the style sheet colours.
"""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from string import ascii_uppercase

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from bnkit.book import (
    citations,
    explorable,
    figures,
    folds,
    glossary,
    reading_time,
    rooms,
    run_here,
    search,
    tabs,
    teaching,
)
from bnkit.book.layout import LEDGER
from bnkit.page import typography
from bnkit.page.figures import stylesheet

# with every extension inside: other variants fetch \boldsymbol or \cancel from elsewhere
MATHJAX = "mathjax/tex-svg-full.js"
THEBE = re.compile(
    r"(?s)\s*<script>const THEBE_JS_URL.*?</script>|\s*<script[^>]*sphinx-thebe[.]js[^>]*></script>"
)
TONES = "figures.css"
ARROW = (
    '<summary><span class="toctree-toggle"',
    '<summary aria-label="Pages of this part"><span class="toctree-toggle"',
)
BADGE = re.compile(r"(C\d\d) · ([a-z ]+)")
AS_WRITTEN = (nodes.literal, nodes.FixedTextElement, nodes.math, nodes.math_block, nodes.raw)
WITHOUT_SCRIPTS = (
    '<p class="without-scripts">This browser runs no scripts, so formulas stand here as TeX, the '
    "language in which they are written.</p>"
)
NOTEBOOK_LINK = re.compile(r'(<a href="[^"]*_(?:sources|code)/[^"]+")')
THE_CODE = {
    "type": "link",
    "text": "just the code",
    "tooltip": "Download the code without the evidence, as a notebook",
    "icon": "fas fa-terminal",
    "label": "download-code-button",
}


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.connect("builder-inited", add_style)
    app.connect("source-read", inline_figures)
    app.connect("env-check-consistency", letter_figures)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", write_tones)
    app.connect("build-finished", mend_pages)
    app.connect("doctree-read", mark)
    app.connect("doctree-read", inline_pictures)
    app.connect("doctree-resolved", set_numbers)
    app.connect("doctree-resolved", glossary.link)
    app.connect("doctree-resolved", search.collect)
    app.connect("build-finished", search.write)
    app.connect("html-page-context", add_script)
    app.connect("html-page-context", warn_of_formulas)
    app.connect("html-page-context", offer_the_code, priority=900)  # the theme's buttons are there
    app.add_directive("room", rooms.Room)
    explorable.connect(app)
    run_here.connect(app)
    reading_time.connect(app)
    folds.setup(app)
    citations.setup()
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_style(app: Sphinx) -> None:
    """Put ``_static/book.css`` of this package on every page, and ``scorer.js`` into the search."""
    static = Path(__file__).with_name("_static")
    app.config.html_static_path.append(str(static))
    app.config.html_search_scorer = str(static / "scorer.js")
    app.add_css_file(TONES, priority=890)
    for priority, sheet in enumerate(("book.css", "reading.css", "print.css"), start=900):
        app.add_css_file(sheet, priority=priority)
    for script in ("reading.js", "search.js"):
        app.add_js_file(script, loading_method="defer")


def inline_figures(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the figures of a chapter into its page."""
    if app.env.doc2path(page).endswith(".ipynb"):
        source[0] = figures.inlined(source[0])


def inline_pictures(app: Sphinx, document: nodes.document) -> None:
    """Put drawings of ours that a page shows as files into the page, too."""
    for image in list(document.findall(nodes.image)):
        path = Path(app.srcdir, image["uri"])
        if path.suffix == ".svg" and (drawn := figures.from_file(path, image.get("alt", ""))):
            image.replace_self(nodes.raw("", drawn, format="html"))


def letter_figures(app: Sphinx, env: BuildEnvironment) -> None:
    """Give pages that are no chapters a letter, in reading order: their figures are A.1, A.2, B.1.

    Else the second figure of such a page would be "Fig. 2", as one of the paper is. Those of
    chapter 0, which Sphinx does not count, are 0.1 and 0.2.
    """
    pages = [page for page in env.collect_relations() if page in env.toc_fignumbers]
    letters = iter(ascii_uppercase)
    for page in pages:
        numbers = env.toc_fignumbers[page].get("figure", {})
        if any(len(number) == 1 for number in numbers.values()):
            letter = "0" if page.startswith("chapters/00-") else next(letters)
            before = min(number[-1] for number in numbers.values()) - 1  # Sphinx counts them all
            renamed = {name: (letter, number[-1] - before) for name, number in numbers.items()}
            numbers.update(renamed)


def write_tones(app: Sphinx, exception: Exception | None) -> None:
    """Write the colours of figures in the tones of both themes."""
    if exception is None:
        Path(app.outdir, "_static", TONES).write_text(stylesheet(), encoding="utf-8")


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Copy the one script that formulas need from the package that carries it: 2 MB of its 24."""
    if exception is None:
        # its name has hyphens: no import statement reaches it
        package = find_spec("sphinx-mathjax-offline")
        target = Path(app.outdir, "_static", MATHJAX)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(package.submodule_search_locations[0], "static", MATHJAX), target)


def mend_pages(app: Sphinx, exception: Exception | None) -> None:
    """Links to a page's notebook download it, where a browser would show its JSON; and Thebe goes.

    The theme loads it twice, which is an error in every browser's console, and from elsewhere. And
    the arrow that opens a part of the contents gets words, for those who do not see it; a list of
    citations is none of list items.
    """
    if exception is None:
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text(encoding="utf-8")
            mended = THEBE.sub("", NOTEBOOK_LINK.sub(r"\1 download", text)).replace(*ARROW)
            mended = mended.replace(' role="list" class="citation-list"', ' class="citation-list"')
            if mended != text:
                page.write_text(mended, encoding="utf-8")


def mark(app: Sphinx, document: nodes.document) -> None:
    """Give ids to the cells and rows that links lead to, and classes to the verdicts."""
    page = app.env.docname
    places = _cells(document) | (_rows(document) if page == LEDGER else {})
    for name, node in places.items():
        node["ids"].append(name)
    # where links of the form PAGE#PLACE are looked up
    slugs = app.env.metadata[page].setdefault("myst_slugs", {})
    slugs.update({name: (0, name, name) for name in places})
    for link in document.findall(pending_xref):
        if match := BADGE.fullmatch(link.astext()):
            classes = ["claim", f"claim-{match[2].replace(' ', '-')}"]
            link[0][:] = [nodes.inline("", "", *link[0].children, classes=classes)]
            if isinstance(link.parent, nodes.paragraph) and link.parent[0] is link:
                link.parent["classes"].append("claim-evidence")
    folds.fold_page(document)
    tabs.join(document)


def set_numbers(app: Sphinx, document: nodes.document, page: str) -> None:
    """Set the numbers of a page's text as cells set theirs: those, too, that it quotes by glue."""
    if page.startswith("chapters/api"):  # Python's own
        return
    for text in list(document.findall(nodes.Text)):
        above = text.parent
        while above is not None and not isinstance(above, AS_WRITTEN):
            above = above.parent
        if above is None and (new := typography.plain(text.astext())) != text.astext():
            text.parent.replace(text, nodes.Text(new))


def warn_of_formulas(
    app: Sphinx, page: str, template: str, context: dict, document: object
) -> None:
    """Say, where no script runs and formulas stand as TeX, why they do."""
    body = context.get("body", "")
    if 'class="math ' in body:
        context["body"] = f"<noscript>{WITHOUT_SCRIPTS}</noscript>\n{body}"


def add_script(app: Sphinx, page: str, template: str, context: dict, document: object) -> None:
    """Let readers sort and filter the ledger; without the script, the table is a table."""
    if page == LEDGER:
        app.add_js_file("claims.js", loading_method="defer")


def offer_the_code(app: Sphinx, page: str, template: str, context: dict, document: object) -> None:
    """Among the downloads of a page: the notebook of its teaching cells, where it has some."""
    source = Path(app.srcdir, f"{page}.ipynb")
    own = teaching.just_the_code(json.loads(source.read_bytes())) if source.is_file() else None
    if own is None:
        return
    target = Path(app.outdir, "_code", f"{page}.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(own, indent=1, ensure_ascii=False)
    target.write_text(f"{text}\n", encoding="utf-8")
    for group in context.get("header_buttons", []):
        if group.get("label") == "download-buttons":
            group["buttons"].insert(
                0, {**THE_CODE, "url": f"{context['pathto']('_code', 1)}/{page}.ipynb"}
            )


def _cells(document: nodes.document) -> dict[str, nodes.Element]:
    """Code cells that are tagged with a claim, by the name of their place."""
    cells = [(cell.get("cell_metadata", {}), cell) for cell in document.findall(nodes.container)]
    return {
        about["bnkit"]["place"]: cell for about, cell in cells if "place" in about.get("bnkit", {})
    }


def _rows(document: nodes.document) -> dict[str, nodes.Element]:
    """The rows of the ledger by the names of their places; table and verdicts get their classes.

    The first cell of the row of C27 bears the id "c27": links from elsewhere may know the row by it.
    """
    rows = {}
    for row in document.findall(nodes.row):
        if re.match(r"C\d\d\b", row.astext()):
            name = row[0].astext().lower()
            row[0]["ids"].append(name)
            rows[f"cell-id={name}"] = row
            row[1]["classes"].append(f"claim-{row[1].astext().replace(' ', '-')}")
            table = row.parent.parent.parent
            table["classes"] = [*{*table["classes"], "claims"}]
    return rows
