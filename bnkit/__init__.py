"""bnkit: Batch Normalization (Ioffe & Szegedy, 2015), measured.

A NumPy reference, a torch layer, and the experiments of the book. Import the module you need:
``from bnkit import reference`` (NumPy only) or ``from bnkit.layers import BatchNorm`` (torch).
"""

__version__ = "0.1.0"
