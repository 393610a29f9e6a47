"""Teaching cells as tabs: which are joined, in which order, and which tags are refused."""

import json
import re

import pytest
from docutils import nodes
from docutils.utils import new_document
from sphinx_design.shared import is_component
from tiny_books import code, good, make_book, notebook, press

from bnkit.book import browser, parts, pdf, tabs


def cell(name: str, *tags: str) -> nodes.container:
    about = {"nb_element": "cell_code", "cell_metadata": {"tags": list(tags)}}
    return nodes.container("", nodes.literal_block("", name), **about)


def joined(*elements: nodes.Node) -> list[list[str]]:
    """The labels and cells of each set."""
    document = new_document("page")
    document.extend(elements)
    order = [each for each in document.astext().split() if each not in ("NumPy", "PyTorch")]
    tabs.join(document)
    assert re.sub("NumPy|PyTorch", "", document.astext()).split() == order, "nothing is moved"
    sets = [node for node in document.findall(nodes.container) if is_component(node, "tab-set")]
    return [each.astext().split() for each in sets]


def test_neighbours_are_one_set_and_text_ends_it():
    first, second = cell("a", "tab:NumPy"), cell("b", "teaching", "tab:PyTorch")
    third, fourth = cell("d", "tab:NumPy"), cell("e", "tab:PyTorch")
    assert joined(first, second, nodes.paragraph("", "text"), third, fourth) == [
        ["NumPy", "a", "PyTorch", "b"],
        ["NumPy", "d", "PyTorch", "e"],
    ]


def test_other_cells_stay_as_they_are():
    assert (
        joined(cell("a"), cell("b", "teaching"), nodes.container("", nodes.paragraph("", "c")))
        == []
    )


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (("tab:NumPy", "tab:PyTorch"), None),
        (("tab:NumPy", "other"), "it takes two or more"),
        (("tab:NumPy", "tab:NumPy"), "under different labels"),
        (("tab:", "tab:PyTorch"), "begins tabs '', 'PyTorch'"),
    ],
)
def test_a_tab_needs_another(tags, said):
    cells = [code(f"c{place}", "1", tags=["teaching", tag]) for place, tag in enumerate(tags)]
    found = [problem for _, problem in parts.tabs(notebook(*cells))]
    assert (said in found[0]) if said else found == []


def test_a_tab_teaches():
    cells = [code(name, "1", tags=["evidence", f"tab:{name}"]) for name in ("a", "b")]
    assert [problem for _, problem in parts.tabs(notebook(*cells))] == [
        "is a tab and does not teach"
    ] * 2


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    chapter = good()
    for label, source in (("NumPy", "print('by NumPy')"), ("PyTorch", "print('by torch')")):
        cell = code(label.lower(), source, tags=["teaching", f"tab:{label}"])
        chapter["cells"].insert(-2, cell)
    book = make_book(tmp_path_factory.mktemp("tabs") / "book", {"01-good": chapter})
    done = press(book, "build")
    assert done.returncode == 0, done.stdout + done.stderr
    own = json.loads((book.html / "_code" / "chapters" / "01-good.ipynb").read_text())
    assert [each["id"] for each in own["cells"]][-2:] == ["numpy", "pytorch"]
    return book.html / "chapters" / "01-good.html"


needs_browser = pytest.mark.skipif(
    browser.executable() is None, reason="needs Playwright and an installed Chromium"
)


@needs_browser
@pytest.mark.parametrize("viewport", [browser.WIDE, browser.PHONE])
def test_a_tab_is_chosen_by_a_click_or_by_a_key(chromium, page, viewport):
    tab = browser.load(chromium, page, viewport)
    numpy, torch = (tab.get_by_text(f"by {name}", exact=True) for name in ("NumPy", "torch"))
    assert (numpy.is_visible(), torch.is_visible()) == (True, False)
    tab.locator(".sd-tab-label", has_text="PyTorch").click()
    assert (numpy.is_visible(), torch.is_visible()) == (False, True)
    tab.locator(".sd-tab-set input").last.press("ArrowLeft")
    assert (numpy.is_visible(), torch.is_visible()) == (True, False)
    assert tab.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert browser.violations(tab) == []


@needs_browser
def test_on_paper_all_tabs_stand_there(chromium, page):
    import io

    from pypdf import PdfReader

    printed = PdfReader(io.BytesIO(pdf.print_page(chromium, page)))
    text = "\n".join(sheet.extract_text() for sheet in printed.pages)
    assert text.index("NumPy\n") < text.index("by NumPy") < text.index("PyTorch\n")
    assert text.index("PyTorch\n") < text.index("by torch")
