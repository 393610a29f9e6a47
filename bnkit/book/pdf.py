"""``make pdf``: the whole book as one file, printed page by page by a Chromium that is installed.

Each page is printed as ``print.css`` says; pypdf puts them together, with the outline of the
reading order, and stamps them with numbers that count through the book.
"""

import io
import re
from pathlib import Path

from bnkit import paths
from bnkit.book import browser
from bnkit.book.layout import Book, PressError

TITLE = "Batch Normalization, Measured"
MARGIN = {"top": "16mm", "bottom": "18mm", "left": "15mm", "right": "15mm"}
PAPER = {"format": "A4", "margin": MARGIN, "print_background": True}
NUMBER = '<p style="break-after: page; margin: 0; position: relative; height: 290mm"><span style="{}">{}</span></p>'
PLACE = (
    "bottom: 9mm; font: 8pt sans-serif; left: 0; position: absolute; right: 0; text-align: center"
)


def write(book: Book, say=print) -> Path:
    """Print the built site; return the file. Raises PressError without a site or a browser."""
    from pypdf import PdfReader, PdfWriter

    if not (book.html / "index.html").is_file():
        raise PressError("there is no site to print yet: make book")
    whole = PdfWriter()
    whole.add_metadata({"/Title": TITLE})
    with browser.opened() as program:
        for document in book.documents():
            page = book.html / f"{document}.html"
            printed = PdfReader(io.BytesIO(print_page(program, page)))
            whole.append(printed, outline_item=title_of(page), import_outline=False)
            say(f"{document}: {len(printed.pages)} pages")
        numbers = PdfReader(io.BytesIO(_numbers(program, len(whole.pages))))
    for sheet, number in zip(whole.pages, numbers.pages, strict=False):
        sheet.merge_page(number)
        sheet.compress_content_streams()  # merging has unpacked them
    target = book.build / "book.pdf"
    content = io.BytesIO()
    whole.write(content)
    paths.write_atomically(target, content.getvalue())
    say(f"{len(whole.pages)} pages: {target}")
    return target


def print_page(program, page: Path) -> bytes:
    """One page of the site as PDF, folds open as on the reader's own printer."""
    tab = browser.load(program, page, browser.WIDE)
    tab.emulate_media(media="print", color_scheme="light")
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    printed = tab.pdf(**PAPER)
    tab.close()
    return printed


def _numbers(program, count: int) -> bytes:
    """As many sheets, empty but for their number."""
    tab = program.new_page()
    tab.set_content("".join(NUMBER.format(PLACE, number + 1) for number in range(count)))
    printed = tab.pdf(format="A4", margin=dict.fromkeys(MARGIN, "0"))
    tab.close()
    return printed


def title_of(page: Path) -> str:
    """The title of a page of the site, without that of the book."""
    found = re.search(
        r"<title>(.*?)(?: &#8212;.*?)?</title>", page.read_text(encoding="utf-8"), re.S
    )
    return " ".join(found[1].split()) if found else page.stem
