"""A browser for the tests that need one; they are skipped, and say why, where there is none."""

import shutil

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    place = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if place is None:
        pytest.skip("no Chromium is installed, which these tests of the pages need")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield launched
        launched.close()
