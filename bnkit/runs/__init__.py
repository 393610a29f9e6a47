"""Training runs: from a recipe to a record, side by side or together, and whether a record still
holds.
"""
