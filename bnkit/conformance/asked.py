"""Everything that is asked, in the order in which it is asked."""

from bnkit.conformance import conduct, conventions, defects, running

QUESTIONS = conventions.QUESTIONS | running.QUESTIONS
"""Name -> a question about a convention; later ones build on the answers to earlier ones."""
PROBES = defects.PROBES | conduct.PROBES
"""Name -> a probe; a mistake that an earlier one has found is not held against later ones."""
