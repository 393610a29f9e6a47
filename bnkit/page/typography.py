"""How numbers are set in text: a minus sign before negative ones, a space before the sign %.

Python formats -2.0 with a hyphen, and 97.7% without a space. The paper's words and ours have
"−2.0" and "97.7 %"; what cells report, and what a page quotes from them, becomes the same here.
"""

import re

# no range, date or name: what stands before a sign is no letter, digit or closing bracket
MINUS = re.compile(r"(?<![\w.)\]}–−-])-(?=\.?\d)")
PERCENT = re.compile(r"(?<=\d) ?%(?!\w)")
# Python's names, formulas, roles, addresses and tags keep their own
KEPT = re.compile(
    r"(?s)(?P<fence>`+).*?(?P=fence)|\$\$.*?\$\$|\$[^$\n]*\$|\]\([^)]*\)|<[^>]*>|https?://\S+"
)


def plain(text: str) -> str:
    """`text`, of which every letter is shown, with its numbers set."""
    return PERCENT.sub("\N{NO-BREAK SPACE}%", MINUS.sub("\N{MINUS SIGN}", text))


def markdown(text: str) -> str:
    """Markdown with its numbers set: not those in code, formulas and links."""
    pieces, start = [], 0
    for kept in KEPT.finditer(text):
        pieces += [plain(text[start : kept.start()]), kept[0]]
        start = kept.end()
    return "".join([*pieces, plain(text[start:])])
