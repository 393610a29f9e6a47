"""The colours of figures: words can be read on either theme, and the style sheet gives them all."""

import re

import pytest

from bnkit.page import figures
from bnkit.page.figures import GROUND, PALETTE, PLATE

LOWEST = 4.5  # WCAG 2.1, level AA, for text
NO_WORDS = {"grid", "shade", "ground", "ramp-1", "on-bright", "on-deep"}


def luminance(colour: str) -> float:
    """Relative luminance after WCAG 2.1 of a colour #rrggbb."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_measure_knows_black_white_and_a_grey_worked_out_by_hand():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    # 119 / 255 -> 0.18448 linear; 1.05 / 0.23448
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)
    assert contrast("#e69f00", PLATE) < 2.3, "Okabe and Ito's orange is no colour for words"


@pytest.mark.parametrize("name", sorted(PALETTE.keys() - (NO_WORDS - {"ramp-1"})))
def test_words_can_be_read_on_either_theme_and_on_the_plate(name):
    tone = PALETTE[name]
    assert contrast(tone.light_text, GROUND["light"]) >= LOWEST
    assert contrast(tone.light_text, PLATE) >= LOWEST
    assert contrast(tone.dark_text, GROUND["dark"]) >= LOWEST


@pytest.mark.parametrize("name", sorted(PALETTE.keys() - NO_WORDS - {"highlight"}))
def test_lines_stand_out_from_either_theme(name):
    tone = PALETTE[name]
    assert contrast(tone.light, GROUND["light"]) >= 3
    assert contrast(tone.dark, GROUND["dark"]) >= 3


def test_words_on_a_picture_can_be_read_whatever_its_colour():
    for grey in range(256):
        colour = f"#{grey:02x}{grey:02x}{grey:02x}"
        best = max(contrast(PALETTE[name].light, colour) for name in ("on-bright", "on-deep"))
        assert best >= 4.3, colour


def test_a_drawn_tone_stands_for_one_colour():
    """Or the SVG of a figure could not be told which variable to use."""
    drawn = {}
    for name, tone in PALETTE.items():
        for colour in {tone.light, tone.light_text}:
            assert re.fullmatch("#[0-9a-f]{6}", colour)
            assert drawn.setdefault(colour, name) == name


def test_the_style_sheet_gives_every_variable_in_both_themes_and_light_ones_on_paper():
    sheet = figures.stylesheet()
    root, dark = sheet.split("\n")[1:3]
    assert dark.startswith('@media not print { html[data-theme="dark"] {')
    for name, tone in PALETTE.items():
        assert f"--figure-{name}: {tone.light};" in root
        assert f"--figure-{name}-text: {tone.light_text};" in root
        assert f"--figure-{name}: {tone.dark};" in dark
        assert f"--figure-{name}-text: {tone.dark_text};" in dark
    assert figures.variable("highlight", text=True) == "var(--figure-highlight-text, #8a5a00)"
    assert sheet.count("{") == sheet.count("}")
    assert "screen" in figures.PHONE, "paper is narrow, and no phone"
