"""What the cells of a chapter call: its parameters, and the sentences that hold numbers."""
