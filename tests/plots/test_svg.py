"""A drawing as SVG: words are words, colours are variables, the bytes are always the same."""

import re
from xml.etree import ElementTree

import pytest
from drawn import example

from bnkit import plots
from bnkit.book.figures import fixed_colours
from bnkit.page.figures import NARROW, PALETTE


def test_two_drawings_are_equal_byte_for_byte_and_hold_no_date():
    one, other = example()._repr_mimebundle_()[0], example()._repr_mimebundle_()[0]
    assert one == other
    assert set(one) == {"image/svg+xml", "image/png", NARROW}
    assert "metadata" not in one["image/svg+xml"]
    assert "date" not in one["image/svg+xml"].lower()
    assert b"Software" not in one["image/png"]
    assert example(11).svg() != example().svg()


def test_words_have_a_darker_tone_than_the_line_that_they_name():
    svg = example().svg()
    (text,) = re.findall(r'<text style="([^"]*)"[^>]*>the sine', svg)
    assert "var(--figure-highlight-text, #8a5a00)" in text
    assert "fill: var(--figure-highlight, #e69f00)" in svg
    assert f"{PALETTE['highlight'].light_text}" not in svg.replace("-text, #8a5a00", "")


def test_a_colour_outside_of_the_palette_stays_and_is_found():
    drawing, axes = plots.figure()
    axes.plot([0, 1], color="#123456")
    assert fixed_colours(drawing.svg()) == ["#123456"]


def test_every_reference_has_its_id_and_nothing_else_has_one():
    svg = example().svg()
    ids = re.findall(r'\bid="([^"]+)"', svg)
    referred = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    assert sorted(referred) == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert ids, "clip paths at least"


def test_many_markers_become_one_picture_and_few_stay_marks():
    few, many = example(), example(plots.DENSE + 1)
    assert few.svg().count("<image") == 0
    assert many.svg().count("<image") == 1
    assert many.svg().count("<use") < few.svg().count("<use")


def test_a_figure_without_a_page_has_a_plate_of_its_own():
    drawing, _ = plots.figure(width=3, height=2)
    root = ElementTree.fromstring(drawing.svg())
    assert (root.get("width"), root.get("height")) == ("300", "200")
    (plate,) = [node for node in root.iter() if node.get("class") == "plate"]
    assert "var(--figure-ground, #fffdf8)" in plate[0].get("style")


def test_reading_a_style_sheet_of_the_page_is_left_to_the_page():
    assert "<style" not in example().svg(), "it would be that of all figures"


@pytest.mark.parametrize("name", ["axes.edgecolor", "axes.labelcolor", "text.color", "grid.color"])
def test_the_house_style_has_colours_of_the_palette(name):
    from matplotlib import rc_params_from_file
    from matplotlib.colors import to_hex

    from bnkit import paths

    style = rc_params_from_file(paths.STYLE, use_default_template=False)
    assert to_hex(style[name]) in {tone.light for tone in PALETTE.values()}
