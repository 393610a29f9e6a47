"""The networks of the book: the paper's, small ones beside each other, and what their loss looks
like from inside.
"""
