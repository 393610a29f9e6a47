"""The ledger of the study note's claims: its file, what chapters do with it, and its page."""

from bnkit.claims.chapter import of

__all__ = ["of"]
