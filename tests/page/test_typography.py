"""Numbers in text: a minus sign, a space before %; code, formulas, links and names as they were."""

import pytest

from bnkit.page import prose, typography


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("by -2.0 and +0.7 points", "by −2.0 and +0.7 points"),
        ("| -0.536 | (-.5) |", "| −0.536 | (−.5) |"),
        ("-1 to 1", "−1 to 1"),
        ("97.7% | 3 %.", "97.7\N{NO-BREAK SPACE}% | 3\N{NO-BREAK SPACE}%."),
    ],
)
def test_numbers_are_set_alike(given, wanted):
    assert typography.plain(given) == wanted
    assert typography.plain(wanted) == wanted, "and stay as they are"
    assert typography.markdown(given) == wanted


@pytest.mark.parametrize(
    "kept",
    [
        "pages 3-5, 2015-03-02, BN-x5, C-1, f(x)-1, 1e-5, --3, a well-known 4",
        "| --- | ---: |",
        "- a list\n- of two",
    ],
)
def test_what_is_no_negative_number_is_left_alone(kept):
    assert typography.plain(kept) == kept


@pytest.mark.parametrize(
    "kept",
    [
        "`axis=-1`",
        "``f'{-1:.0%}' 5%``",
        "```python\nx[-1]\n```",
        "$x = -1$",
        "$$\n-1\n$$",
        "[text](page.ipynb#cell-id=c12)",
        "[text](a-(-1)",
        "{glue:text}`/chapters/a.ipynb::b:.0%`",
        '<img alt="-1" width="5%">',
        "https://example.org/-1/5%",
    ],
)
def test_code_formulas_links_and_tags_keep_their_own(kept):
    assert typography.markdown(f"-1 {kept} 5%") == f"−1 {kept} 5\N{NO-BREAK SPACE}%"


def test_what_cells_report_is_set(shown):
    prose.report(f"It changes by {-2:.1f}.", site="By {glue:text}`/chapters/a.ipynb::b` or -1.")
    prose.table(("change", "share"), [(-2.0, f"{0.5:.0%}")])
    prose.keep("Evidence", f"[C27](claims.ipynb#cell-id=c27): `-1` = {-1}")
    both, table, kept = (output.data for output in shown)
    assert both["text/markdown"] == "It changes by −2.0."
    assert both[prose.SITE] == "By {glue:text}`/chapters/a.ipynb::b` or −1."
    assert table["text/markdown"].endswith("| −2.0 | 50\N{NO-BREAK SPACE}% |")
    assert kept["text/markdown"].endswith("`-1` = −1")
    assert "= −1" in kept["text/html"]
