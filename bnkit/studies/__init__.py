"""The experiments of the theory chapters: a module per subject, and what they share."""
