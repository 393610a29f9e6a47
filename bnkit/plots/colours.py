"""One colour per meaning, as ``bnkit.page.figures`` has them; here they are named and drawn.

Blue is batch normalization, vermilion its absence, in every figure and for nothing else. What has
no meaning of its own takes a colour of ``SERIES``; what has an order, one of ``ramp``.
"""

import numpy as np

from bnkit.page.figures import PALETTE

WITH_BN = PALETTE["with-bn"].light  # blue: the treatment
WITHOUT_BN = PALETTE["without-bn"].light  # vermilion: the control
PAPER = PALETTE["ink"].light  # black, dashed: what the paper printed
THEORY = PALETTE["theory"].light  # grey, dotted: a formula
FASTER = PALETTE["faster"].light  # green: a higher learning rate
WRONG = PALETTE["wrong"].light  # purple: a mutant, or the note's version
HIGHLIGHT = PALETTE["highlight"].light  # orange: the one thing to look at
NEUTRAL = PALETTE["neutral"].light  # the rest
GROUND = PALETTE["ground"].light  # what covers something: the page itself
SHADE = PALETTE["shade"].light  # an area that is only there
INK = PALETTE["ink"].light  # words
# categories without a meaning of their own
SERIES = tuple(PALETTE[name].light for name in ("violet", "olive", "faster", "brown", "wrong"))
BOTH = {"with BN": WITH_BN, "without BN": WITHOUT_BN}
_RAMP = [tone.light for name, tone in PALETTE.items() if name.startswith("ramp")]


def ramp(steps: int) -> list[str]:
    """Colours for `steps` things in their order, from faint to strong; at most ``len(_RAMP)``."""
    places = np.linspace(0, len(_RAMP) - 1, steps) if steps > 1 else [len(_RAMP) - 1]
    return [_RAMP[round(float(place))] for place in places]


def readable_on(colour: tuple[float, ...]) -> str:
    """The colour of words on a part of a picture that is `colour`, (red, green, blue, ...)."""
    red, green, blue = (_linear(part) for part in colour[:3])
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # WCAG 2.1, relative luminance
    return PALETTE["on-bright" if luminance > 0.18 else "on-deep"].light


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
