"""The networks of the book: the paper's, small ones side by side, and a look at their loss."""
