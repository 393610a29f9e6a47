"""How a work is cited in running text: Ioffe (2017), or (Ioffe, 2017), as a link to its entry."""

from dataclasses import dataclass, field

from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle


def _round() -> BracketStyle:
    return BracketStyle(left="(", right=")")


@dataclass
class Round(AuthorYearReferenceStyle):
    """Author and year, in round brackets."""

    bracket_parenthetical: BracketStyle = field(default_factory=_round)
    bracket_textual: BracketStyle = field(default_factory=_round)
    bracket_author: BracketStyle = field(default_factory=_round)
    bracket_label: BracketStyle = field(default_factory=_round)
    bracket_year: BracketStyle = field(default_factory=_round)


def setup() -> None:
    """Make the style known by its name in ``_config.yml``."""
    register_plugin("sphinxcontrib.bibtex.style.referencing", "round", Round)
