"""The house measure counts what a reader sees."""

import json

from bnkit.book.measure import (
    Measure,
    Weight,
    bytes_under,
    measure,
    weigh,
    words_before_the_formula,
)


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
    weight = {"words": 6, "code_lines": 3, "median_cell": 1.5, "longest_cell": 2}
    assert measure(path) == Measure(**weight, teaching=0, by_torch=0, unhidden=0)


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


def test_teaching_cells_torchs_layer_and_open_questions_are_counted(tmp_path):
    def cell(kind, source, *tags):
        about = {"tags": list(tags)}
        return {"cell_type": kind, "source": source, "metadata": about}

    box = "::::{admonition} Before you read on: which?\n:class: prediction\n\n::::"
    cells = [
        cell("markdown", f"Text. **Before you read on:** which?\n\n{box}"),
        cell("code", "bn = torch.nn.BatchNorm1d(3)", "teaching"),
        cell("code", "y = bn(x)", "teaching"),
        cell("code", "again = nn.BatchNorm1d(3)", "evidence"),
    ]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    found = measure(path)
    assert (found.teaching, found.by_torch, found.unhidden) == (2, 1, 1)


def test_words_are_counted_until_a_page_shows_the_formula(tmp_path):
    before, names, defines = (tmp_path / name for name in ("before.md", "names.md", "defines.md"))
    before.write_text("Four words stand here.")
    names.write_text("Three: the $\\hat x$")
    defines.write_text("$$\\hat x_i = \\frac{x_i - \\mu}{\\sqrt{\\sigma^2 + \\epsilon}}$$ and more")
    assert words_before_the_formula([defines, before]) == 0
    assert words_before_the_formula([before, defines]) == 4
    assert words_before_the_formula([before, names, defines]) == 4 + 4


def test_the_size_of_a_folder_is_that_of_all_its_files(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "inside" / "b").write_bytes(b"45")
    assert bytes_under(tmp_path) == 5
    assert bytes_under(tmp_path / "gone") == 0
