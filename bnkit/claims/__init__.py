"""The ledger of the study note's claims: its file, what chapters do with it, and the page that
shows all of it.
"""

from bnkit.claims.chapter import of

__all__ = ["of"]
