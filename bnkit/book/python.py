"""Starts other Python programs: with this very Python, and without two seconds of waiting each
time.
"""

import sys

# Whoever imports jsonschema, as all of Jupyter does, waits while this module compiles a grammar of
# internationalised addresses; jsonschema does without it where it is missing, and no notebook has
# anything to check by it.
QUICK = "import sys; sys.modules['rfc3987_syntax'] = None; "


def program(statement: str, *arguments: str) -> list[str]:
    """The command that runs `statement`, such as ``"from papermill.cli import papermill;
    papermill()"``."""
    return [sys.executable, "-c", QUICK + statement, *arguments]
