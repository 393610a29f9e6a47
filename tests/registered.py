"""Runs that never were, taken for the book's: what lies in the folder is what is registered."""

import json

from bnkit import paths
from bnkit.runs import experiments


def take_for_the_book_s(monkeypatch):
    """Every record in ``paths.runs()`` is one of the book's, with the recipe that it has."""

    def registered(name: str, seed: int) -> dict | None:
        path = paths.runs() / name / f"seed-{seed}.json"
        return json.loads(path.read_bytes())["recipe"] if path.is_file() else {}

    monkeypatch.setattr(experiments, "registered", registered)
