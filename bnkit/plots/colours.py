"""One colour per meaning: Okabe and Ito's palette, fit for every common colour blindness."""

WITH_BN = "#0072B2"  # blue: the treatment
WITHOUT_BN = "#D55E00"  # vermilion: the control
PAPER = "#000000"  # black, dashed: what the paper printed
THEORY = "#555555"  # grey, dotted: a formula
FASTER = "#009E73"  # green: a higher learning rate
WRONG = "#CC79A7"  # purple: a mutant, or the note's version
HIGHLIGHT = "#E69F00"  # orange: the one thing to look at
NEUTRAL = "#8a8a8a"  # the rest
# categories without a meaning of their own
SERIES = (WITH_BN, WITHOUT_BN, FASTER, HIGHLIGHT, WRONG, "#56B4E9", THEORY)
BOTH = {"with BN": WITH_BN, "without BN": WITHOUT_BN}
