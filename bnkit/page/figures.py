"""What a figure and the page around it agree on: colours by meaning, in the tones of each theme.

A plot is drawn in the light tones. In its SVG every one of them is a CSS variable that falls back
to itself, so that the file stands alone, in JupyterLab for one; a page that has ``stylesheet``
gives the variables the tones of its theme. Words have tones of their own: thin strokes have to be
darker, or brighter, than a line to be read. Nothing but the standard library is needed here, for
the press is to know the colours and not how to plot.
"""

from typing import NamedTuple

NARROW = "application/vnd.bnkit.narrow-figure"  # beside image/svg+xml: the same for a phone
GROUND = {"light": "#ffffff", "dark": "#121212"}  # of the theme's pages
PLATE = "#fffdf8"  # warm white, below a figure where no page gives it a ground


class Tone(NamedTuple):
    """A colour as lines and areas have it, and as words have it, in either theme."""

    light: str
    dark: str
    light_text: str
    dark_text: str

    @classmethod
    def of(cls, light: str, dark: str, light_text: str = "", dark_text: str = "") -> "Tone":
        """A tone whose words have another colour only where one is given."""
        return cls(light, dark, light_text or light, dark_text or dark)


# Okabe and Ito's colours, fit for every common colour blindness, for what has a meaning; a violet,
# an olive and a brown for categories; one ramp from faint to strong for what has an order.
PALETTE = {
    "with-bn": Tone.of("#0072b2", "#4aa8e0"),
    "without-bn": Tone.of("#d55e00", "#f07f35", "#b34e00"),
    "faster": Tone.of("#009e73", "#2cbf93", "#007a59"),
    "wrong": Tone.of("#cc79a7", "#e094bf", "#a3447a"),
    "highlight": Tone.of("#e69f00", "#f0b030", "#8a5a00"),
    "violet": Tone.of("#7a5fc0", "#a995e8", "#6a4fb3"),
    "olive": Tone.of("#8a8f00", "#b9be3a", "#6a6e00"),
    "brown": Tone.of("#8c5a3c", "#c4956f"),
    "ramp-1": Tone.of("#c3b1e1", "#6a56a8", "#7d62b6", "#9f8bdc"),
    "ramp-2": Tone.of("#9f86cf", "#7d68bd", "#7456b3", "#a794e0"),
    "ramp-3": Tone.of("#7b5fb5", "#9f8bdc", "#694da3", "#b3a3e6"),
    "ramp-4": Tone.of("#573c92", "#c2b3f0"),
    "ramp-5": Tone.of("#35206b", "#e6defc"),
    "ink": Tone.of("#1f2328", "#e6e9ec"),
    "theory": Tone.of("#555555", "#b4bac1"),
    "label": Tone.of("#333333", "#ced6dd"),
    "neutral": Tone.of("#8a8a8a", "#8d949c", "#6b6b6b", "#a3abb3"),
    "grid": Tone.of("#e3e0d8", "#2b323b"),
    "shade": Tone.of("#dcd9d0", "#39414c"),
    "ground": Tone.of(PLATE, GROUND["dark"]),
    # on pictures, whose colours are those of no theme
    "on-bright": Tone.of("#111111", "#111111"),
    "on-deep": Tone.of("#fefefe", "#fefefe"),
}
PHONE = "screen and (max-width: 40rem)"  # where a page shows the narrow layout


def variable(name: str, text: bool = False) -> str:
    """The value that an SVG has for a colour of ``PALETTE``: its variable, then its light tone."""
    tone = PALETTE[name]
    fallback = tone.light_text if text else tone.light
    return f"var(--figure-{name}{'-text' if text else ''}, {fallback})"


def stylesheet() -> str:
    """The style sheet of pages with figures: the tones of both themes, and the layout to show.

    Paper is white whatever the theme on the screen is.
    """
    light, dark = (" ".join(_tones(theme)) for theme in GROUND)
    phone = f"@media {PHONE} {{ .drawing .wide {{ display: none }} .drawing .narrow"
    return "\n".join(
        [
            "/* Written by bnkit.page.figures. */",
            f":root {{ {light} }}",
            f'@media not print {{ html[data-theme="dark"] {{ {dark} }} }}',
            ".drawing .narrow { display: none }",
            f"{phone} {{ display: block }} }}",
            "",
        ]
    )


def _tones(theme: str) -> list[str]:
    plain = [f"--figure-{name}: {getattr(tone, theme)};" for name, tone in PALETTE.items()]
    words = {name: getattr(tone, f"{theme}_text") for name, tone in PALETTE.items()}
    return plain + [f"--figure-{name}-text: {colour};" for name, colour in words.items()]
