"""Training runs: from a recipe to a record, and whether a record still holds."""
