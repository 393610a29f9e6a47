"""The browser of these tests, by the name that they use."""

import pytest


@pytest.fixture(scope="session")
def browser(chromium):
    """A headless Chromium, ``chromium`` of tests/conftest.py."""
    return chromium
