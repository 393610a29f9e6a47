"""The cheat sheet: its code is right, its table is PyTorch's, and it fits on one sheet of paper."""

import io
import re

import numpy as np
import pytest
import torch

from bnkit import reference
from bnkit.book import browser, pdf, site
from bnkit.paths import root

SHEET = (root() / "chapters" / "cheat-sheet.md").read_text(encoding="utf-8")


def test_the_code_is_the_reference():
    (code,) = re.findall(r"```python\n(.*?)```", SHEET, re.DOTALL)
    rng, m = np.random.default_rng(0), 5
    x, dy = rng.normal(3, 2, (2, m, 4))
    gamma, beta, mean, var = rng.normal(size=(4, 4))
    names = {"x": x, "dy": dy, "gamma": gamma, "beta": beta, "eps": 1e-3, "m": m, "np": np}
    before, after = code.split("# inference")
    exec(before, names := names | {"E": mean, "V": var**2})
    y, cache = reference.forward(x, gamma, beta, 1e-3)
    dx, dgamma, dbeta = reference.backward(dy, cache)
    for name, expected in {"y": y, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}.items():
        np.testing.assert_allclose(names[name], expected, rtol=1e-12, atol=1e-12)
    population = reference.observe(reference.Population(mean, var**2, 1), x, 0.1)
    np.testing.assert_allclose([names["E"], names["V"]], [population.mean, population.var])
    exec(after, names)
    np.testing.assert_allclose(names["y"], reference.infer(x, gamma, beta, population, 1e-3))


def test_the_defaults_are_pytorch_s():
    layer = torch.nn.BatchNorm2d(1).requires_grad_(False)
    rows = re.findall(r"^\| [^|]* \| (`[^|]*`) \| ([^|]+) \|$", SHEET, re.MULTILINE)
    told = {}
    for names, values in rows:
        names, values = names.replace("`", "").split(", "), values.replace("`", "").split(", ")
        told |= dict(zip(names, values, strict=True))
    settings = {name: value for name, value in told.items() if hasattr(layer, name)}
    assert len(settings) == 8
    for name, value in settings.items():
        expected = 1.0 if value == "True" else float(value)
        assert float(getattr(layer, name)) == expected, name


@pytest.mark.skipif(browser.executable() is None, reason="needs Playwright and a Chromium")
def test_it_prints_on_one_sheet(chromium, tmp_path):
    from pypdf import PdfReader

    source = tmp_path / "source"
    (source / "chapters").mkdir(parents=True)
    for name in ("_config.yml", "chapters/cheat-sheet.md", "chapters/references.bib"):
        (source / name).write_bytes((root() / name).read_bytes())
    (source / "_toc.yml").write_text("format: jb-book\nroot: chapters/cheat-sheet\n")
    page = site.build(source, tmp_path / "work", strict=False) / "chapters" / "cheat-sheet.html"
    printed = PdfReader(io.BytesIO(pdf.print_page(chromium, page)))
    assert len(printed.pages) == 1
    text = " ".join(printed.pages[0].extract_text().split())
    assert "The formula" in text
    assert "Tests of this book" in text
