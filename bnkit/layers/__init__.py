"""What one swaps in: layers for torch, and the mathematics of Batch Normalization on three paths.

``batch_norm`` is the layer; ``plain``, ``aten`` and ``triton`` are its mathematics in plain torch,
in fused operators for the CPU and in kernels for a GPU. ``batch_renorm`` and
``local_response_norm`` are what the book compares it with.
"""

from bnkit.layers.batch_norm import BatchNorm, backend, convert, using

__all__ = ["BatchNorm", "backend", "convert", "using"]
