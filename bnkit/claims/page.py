"""The page of all claims: the ledger as one table, and how many claims got which verdict."""

from collections import Counter
from collections.abc import Callable, Iterable

from bnkit.claims.ledger import EVIDENCE, VERDICTS, Claim, sentences
from bnkit.page import prose

HEAD = ("claim", "verdict", "the note said", "we measured", "chapter")


def select(claims: Iterable[Claim], verdict: str, chapter: str) -> list[Claim]:
    """The claims of one verdict and one chapter; "all" for any."""
    return [
        each
        for each in claims
        if verdict in ("all", each.verdict) and chapter in ("all", each.chapter)
    ]


def counts(claims: Iterable[Claim]) -> dict[str, int]:
    """How many claims got each verdict, those without any included."""
    found = Counter(each.verdict for each in claims)
    return {verdict: found[verdict] for verdict in VERDICTS}


def by_chapter(claims: list[Claim]) -> str:
    """Chapters against verdicts, as a Markdown table with sums."""
    chapters = list(dict.fromkeys(sorted(each.chapter for each in claims)))
    rows = [
        (chapter, counts(each for each in claims if each.chapter == chapter))
        for chapter in chapters
    ]
    lines = [
        (_link(name, claims, name), *map(str, found.values()), str(sum(found.values())))
        for name, found in rows
    ]
    total = counts(claims)
    return prose.as_table(
        ("chapter", *VERDICTS, "all"),
        [*lines, ("all", *map(str, total.values()), str(len(claims)))],
    )


def summary(claims: list[Claim]) -> str:
    """How many claims there are, and on what kind of evidence they stand, in a sentence."""
    found, kinds = counts(claims), Counter(each.evidence for each in claims)
    verdicts = ", ".join(f"{number} {verdict}" for verdict, number in found.items())
    rest = ", ".join(f"{kinds[kind]} {kind}" for kind in EVIDENCE[1:] if kinds[kind])
    return (
        f"Of {len(claims)} statements: {verdicts}. For {kinds['measured']} of them a cell "
        "measures what the verdict "
        f"stands on{f'; the others: {rest}' if rest else ''}."
    )


def show(claims: Iterable[Claim]) -> None:
    """The ledger itself: on the site with the numbers that chapters measured, in JupyterLab with
    what they must be."""
    claims = list(claims)

    def demanded(claim: Claim) -> Callable[[str, str], str]:
        return lambda key, _: f"`{claim.measured[key].text}`"

    def found(claim: Claim) -> Callable[[str, str], str]:
        return lambda key, spec: prose.quote(claim.chapter, claim.name(key), spec)

    prose.report(
        *(
            prose.as_table(HEAD, [_row(each, numbers(each)) for each in claims])
            for numbers in (demanded, found)
        )
    )


def _row(claim: Claim, numbers: Callable[[str, str], str]) -> tuple[str, ...]:
    fact = f"*In fact:* {sentences(claim.correction)}" if claim.correction else ""
    said = "<br>".join(
        filter(None, (claim.statement, fact, f"<small>Paper: {sentences(claim.paper)}</small>"))
    )
    measured = sentences(claim.says(numbers))
    if claim.measured:
        held = ", ".join(f"`{key} {each.text}`" for key, each in claim.measured.items())
        measured += f"<br><small>Held to {held} by `{claim.test.removeprefix('tests/')}`.</small>"
    return (
        claim.id,
        claim.verdict,
        said,
        measured,
        _link(claim.chapter, [claim], claim.chapter[:2].lstrip("0")),
    )


def _link(chapter: str, claims: Iterable[Claim], text: str) -> str:
    """The chapter, linked to the cell if there is one claim; not linked while all claims in it are
    pending."""
    here = [each for each in claims if each.chapter == chapter]
    if all(each.evidence == "pending" for each in here):
        return text
    return f"[{text}]({chapter}.ipynb{f'#cell-id={here[0].cell}' if len(here) == 1 else ''})"
