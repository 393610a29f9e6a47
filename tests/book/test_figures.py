"""Figures in the page: both layouts, ids of their own, and words for who cannot see them."""

import json
import re

import pytest
from tiny_books import TOLD, code, markdown, notebook

from bnkit import plots
from bnkit.book import figures, gate
from bnkit.page.figures import NARROW
from bnkit.page.notebook import Figure
from bnkit.plots import colours

ABOUT = Figure("fig-line", "Left a line rises.", 'A line that "rises" & falls.')


@plots.styled
def line(colour: str = colours.WITH_BN, size: float = 10) -> plots.Drawing:
    drawing, axes = plots.figure()
    axes.plot([0, 1], color=colour)
    axes.text(0, 0, "words", fontsize=size)
    return drawing


def bundle(*arguments) -> dict:
    data, _ = line(*arguments)._repr_mimebundle_()
    return {**data, "image/png": "AAAA"}


def executed(data: dict) -> dict:
    shown = {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": 1}
    cell = {**code("figure-line", "line()", **TOLD), "outputs": [shown], "execution_count": 1}
    return notebook(markdown("title", "# A title\n\nA lead."), cell)


def test_a_page_gets_both_layouts_with_a_text_each_and_no_id_twice():
    html = figures.html(bundle(), ABOUT)
    assert re.findall(r'<svg class="(\w+)" role="img"', html) == ["wide", "narrow"]
    assert html.count('aria-label="A line that &quot;rises&quot; &amp; falls."') == 2
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert ids
    assert len(ids) == len(set(ids))
    assert {name.rpartition("-")[0] for name in ids} == {"fig-line-wide", "fig-line-narrow"}
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', html)) == set(ids)
    other = figures.html(bundle(), ABOUT._replace(name="fig-other"))
    assert not set(re.findall(r'\bid="([^"]+)"', other)) & set(ids)


def test_only_the_page_changes_and_only_where_there_is_a_figure_of_ours():
    content = executed(bundle())
    before = json.dumps(content)
    page = json.loads(figures.inlined(before))
    assert list(page["cells"][1]["outputs"][0]["data"]) == ["text/html"]
    assert page["cells"][0] == content["cells"][0]
    picture = executed({"image/png": "AAAA", "text/plain": "a picture"})
    assert json.loads(figures.inlined(json.dumps(picture))) == picture


def test_a_figure_without_a_narrow_layout_is_shown_on_every_screen():
    drawn = bundle()
    del drawn[NARROW]
    assert re.findall(r'<svg class="(\w+)"', figures.html(drawn, ABOUT)) == ["only"]


def test_a_caption_that_speaks_of_left_and_right_is_told_apart():
    assert '<div class="drawing sides">' in figures.html(bundle(), ABOUT)
    assert '<div class="drawing">' in figures.html(bundle(), ABOUT._replace(caption="It rises."))


def test_a_file_of_ours_is_inlined_and_one_of_others_is_not(tmp_path):
    ours, theirs = tmp_path / "ours.svg", tmp_path / "theirs.svg"
    ours.write_text(line().svg())
    theirs.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert figures.from_file(theirs, "alt") is None
    assert "narrow" not in figures.from_file(ours, "alt")
    (tmp_path / "ours-narrow.svg").write_text(line().narrow().svg())
    html = figures.from_file(ours, "what it shows")
    assert re.findall(r'<svg class="(\w+)" role="img" aria-label="what it shows"', html) == [
        "wide",
        "narrow",
    ]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (bundle("#123456"), "draws in #123456, on light and dark pages alike"),
        (bundle(colours.WITH_BN, 7), "has words 7.4 pixels high on a phone"),
    ],
)
def test_the_gate_refuses_colours_without_a_theme_and_words_too_small(data, problem):
    fine = gate.Chapter("chapters/01", {}, executed(bundle()))
    wrong = fine._replace(executed=executed(data))
    assert [*gate.colours(fine), *gate.legible(fine)] == []
    ((cell, told),) = [*gate.colours(wrong), *gate.legible(wrong)]
    assert cell == "figure-line"
    assert problem in told


def test_the_size_of_words_is_that_on_the_screen():
    svg = '<svg viewBox="0 0 686 100"><text style="font-size: 16px">a</text></svg>'
    assert figures.smallest_label({"image/svg+xml": svg}, screen=343) == 8
    small = '<svg viewBox="0 0 72 10"><text style="font-size: 9px">a</text></svg>'
    assert figures.smallest_label({"image/svg+xml": small}) == 12.5, "it is not enlarged"
