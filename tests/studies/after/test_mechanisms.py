"""The closing page: leads by hand, and a table that needs every number it is given and leads to
chapters that exist.
"""

import re

import numpy as np
import pytest

from bnkit import paths
from bnkit.studies.after import mechanisms


def test_leads_are_in_points_and_keep_their_groups():
    settings = {
        "a": (np.array([0.9, 0.7]), np.array([0.5, 0.7])),
        "b": (np.array([0.1]), np.array([0.3])),
    }
    assert mechanisms.leads({"off": settings, "well": {}}) == {
        "off": pytest.approx([20, -20]),
        "well": [],
    }


def test_the_table_quotes_every_number_and_misses_none():
    asked = set()

    class Numbers(dict):
        def __missing__(self, name):
            asked.add(name)
            return 0.5

    rows = mechanisms.rows(Numbers())
    assert {len(row) for row in rows} == {5}
    assert all(all(cell for cell in row) for row in rows)
    for name in asked:
        with pytest.raises(KeyError, match=name):
            mechanisms.rows(dict.fromkeys(asked - {name}, 0.5))


def test_links_lead_to_chapters_of_their_number():
    for number, target in re.findall(
        r"\[(\d+)\]\(([\w-]+\.ipynb)\)", mechanisms.link(*mechanisms.CHAPTERS)
    ):
        assert target.startswith(f"{int(number):02d}-")
        assert (paths.root() / "chapters" / target).is_file()
