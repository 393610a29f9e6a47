"""What one swaps in: layers for torch, and the mathematics of Batch Normalization on three paths.

``modules`` has the layers, ``conversion`` gives them to a model that exists already and takes them
back; ``batch_norm`` is the function behind them, ``plain``, ``aten`` and ``triton`` its mathematics
in plain torch, in fused operators for the CPU and in kernels for a GPU. ``batch_renorm`` and
``local_response_norm`` are what the book compares it with.
"""

from bnkit.layers.batch_norm import backend, using
from bnkit.layers.conversion import Conversion, convert, examine, restore
from bnkit.layers.modules import BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm

__all__ = [
    "BatchNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conversion",
    "SyncBatchNorm",
    "backend",
    "convert",
    "examine",
    "restore",
    "using",
]
