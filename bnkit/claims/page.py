"""The page of all claims: the ledger as one table, and how many claims got which verdict."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from bnkit.claims.ledger import EVIDENCE, VERDICTS, Claim, sentences
from bnkit.page import prose

HEAD = ("claim", "verdict", "the note said", "we measured", "chapter")


def select(claims: Iterable[Claim], verdict: str, chapter: str) -> list[Claim]:
    """The claims of one verdict and one chapter; "all" for any."""
    chosen = (claim for claim in claims if verdict in ("all", claim.verdict))
    return [claim for claim in chosen if chapter in ("all", claim.chapter)]


def counts(claims: Iterable[Claim]) -> dict[str, int]:
    """How many claims got each verdict, those without any included."""
    numbers = Counter(claim.verdict for claim in claims)
    return {verdict: numbers[verdict] for verdict in VERDICTS}


def by_chapter(claims: list[Claim]) -> str:
    """Chapters against verdicts, as a Markdown table with sums."""
    rows = []
    for chapter in sorted({claim.chapter for claim in claims}):
        own = select(claims, "all", chapter)
        rows.append((_link(chapter, own, chapter), *counts(own).values(), len(own)))
    rows.append(("all", *counts(claims).values(), len(claims)))
    return prose.as_table(("chapter", *VERDICTS, "all"), rows)


def summary(claims: list[Claim]) -> str:
    """How many claims there are, and on what kind of evidence they stand, in a sentence."""
    kinds = Counter(claim.evidence for claim in claims)
    verdicts = ", ".join(f"{number} {verdict}" for verdict, number in counts(claims).items())
    others = ", ".join(f"{kinds[kind]} {kind}" for kind in EVIDENCE[1:] if kinds[kind])
    rest = f"; the others: {others}" if others else ""
    return (
        f"Of {len(claims)} statements: {verdicts}. For {kinds['measured']} of them a cell measures "
        f"what the verdict stands on{rest}."
    )


def show(claims: Iterable[Claim]) -> None:
    """The ledger: on the site with what chapters measured, in JupyterLab with what it must be."""
    claims = list(claims)

    def measured(claim: Claim, key: str, spec: str) -> str:
        return prose.quote(claim.chapter, claim.name(key), spec)

    def face(numbers: Callable[[Claim, str, str], str]) -> str:
        return prose.as_table(HEAD, [_row(claim, partial(numbers, claim)) for claim in claims])

    prose.report(face(_demanded), face(measured))


def entry(claim: Claim) -> str:
    """A claim by itself, in Markdown: what JupyterLab shows where a link leads to it."""
    numbers = partial(_demanded, claim)
    parts = [
        f"### {claim.id} · {claim.verdict}",
        f"**The note said:** {claim.statement}",
        f"**In fact:** {sentences(claim.correction)}" if claim.correction else "",
        f"**We measured:** {sentences(claim.says(numbers))}",
        f"Where: {_link(claim.chapter, [claim], claim.chapter)}",
        f"<small>{' '.join(filter(None, (_sourced(claim), _held(claim))))}</small>",
    ]
    return "\n\n".join(filter(None, parts))


def _demanded(claim: Claim, key: str, spec: str) -> str:
    return f"`{claim.measured[key].text}`"


def _row(claim: Claim, numbers: Callable[[str, str], str]) -> tuple[str, ...]:
    fact = f"*In fact:* {sentences(claim.correction)}" if claim.correction else ""
    paper = f"<small>{_sourced(claim)}</small>"
    said = "<br>".join(filter(None, (claim.statement, fact, paper)))
    measured = sentences(claim.says(numbers))
    if claim.measured:
        measured += f"<br><small>{_held(claim)}</small>"
    link = _link(claim.chapter, [claim], claim.chapter[:2].lstrip("0"))
    return claim.id, claim.verdict, said, measured, link


def _sourced(claim: Claim) -> str:
    return f"{claim.kind.capitalize()}. Paper: {sentences(claim.paper)}"


def _held(claim: Claim) -> str:
    """Which relations the measured values satisfy, and the test that enforces them; or ""."""
    if not claim.measured:
        return ""
    held = ", ".join(f"`{key} {demanded.text}`" for key, demanded in claim.measured.items())
    return f"Held to {held} by `{claim.test.removeprefix('tests/')}`."


def _link(chapter: str, claims: list[Claim], text: str) -> str:
    """A link to the chapter of `claims`, or to the cell of one; none while all are pending."""
    if all(claim.evidence == "pending" for claim in claims):
        return text
    cell = claims[0].cell
    return f"[{text}]({chapter}.ipynb{f'#cell-id={cell}' if len(claims) == 1 else ''})"
