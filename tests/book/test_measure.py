"""The house measure counts what a reader sees."""

import json

from bnkit.book.measure import Measure, measure


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
