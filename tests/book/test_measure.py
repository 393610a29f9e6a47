"""The house measure counts what a reader sees."""

import json

from bnkit.book.measure import Measure, Weight, measure, weigh


def test_words_and_lines_are_counted_and_solutions_left_out(tmp_path):
    def cell(kind, source, *tags):
        return {
            "cell_type": kind,
            "source": source.splitlines(keepends=True),
            "metadata": {"tags": list(tags)},
        }

    cells = [
        cell("markdown", "# A title\n\nFour more words here."),
        cell("code", "x = 1\n\ny = 2"),
        cell("code", "z = 3"),
        cell("code", "hidden = 1\nhidden = 2", "hide-cell"),
    ]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert measure(path) == Measure(words=6, code_lines=3, median_cell=1.5, longest_cell=2)


def test_a_page_is_weighed_with_its_drawings_and_pictures_and_without_what_all_pages_share(
    tmp_path,
):
    (tmp_path / "_images").mkdir()
    (tmp_path / "_static").mkdir()
    (tmp_path / "_images" / "a b.png").write_bytes(b"1234567")
    (tmp_path / "_static" / "logo.png").write_bytes(b"x" * 99)
    drawing = '<div class="drawing sides"><svg>γ</svg><svg></svg></div>'
    shown = '<img alt="" src="_images/a%20b.png"><img src="_static/logo.png"><img src="gone.png">'
    page = tmp_path / "page.html"
    page.write_text(f"<p>{drawing}{shown}{shown}</p>", encoding="utf-8")
    inside = len(drawing) + 1  # a Greek letter is two bytes
    assert weigh(page) == Weight(page.stat().st_size, inside, 7)
    assert str(Weight(1_234_000, 56_000, 0)).split() == [
        "page", "1,234", "kB", "figures", "56", "kB", "pictures", "0", "kB",
    ]  # fmt: skip
