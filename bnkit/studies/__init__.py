"""The experiments of the theory chapters: one module per subject, NumPy first; each knows
no other.
"""
