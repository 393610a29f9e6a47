"""Chapter 10 and the last page: what came after the paper, one study a module."""
