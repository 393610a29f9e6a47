"""Local Response Normalization in the time it deserves: torch's, without its 3-D pooling.

Section 4.2.1 takes it out of Inception, so the networks before that need it.
``torch.nn.LocalResponseNorm`` averages neighbouring maps by ``avg_pool3d``, so slowly that whole
training steps of the small network feel it.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class LocalResponseNorm(nn.LocalResponseNorm):
    """y_c = u_c / (k + alpha * mean of u² over the `size` maps around c)^beta, torch's own layer.

    Same arguments, same defaults. Outputs and gradients are the same to the last bit, but for the
    few numbers at the end of a tensor that do not fill a vector of the processor: torch rounds
    their powers in another way. Shapes: (N, C, H, W) -> the same.
    """

    def forward(self, u: Tensor) -> Tensor:
        before, after = self.size // 2, (self.size - 1) // 2
        mean = _Neighbours.apply(u * u, before, after) / self.size
        return u / (mean * self.alpha + self.k).pow(self.beta)


class _Neighbours(torch.autograd.Function):
    """Sums over neighbouring maps, from the lowest up, as torch; beyond the edges is nothing."""

    @staticmethod
    def forward(ctx, u: Tensor, before: int, after: int) -> Tensor:
        ctx.reach = before, after
        maps, padded = u.shape[1], pad(u, (0, 0, 0, 0, before, after))
        total = padded[:, :maps].clone()
        for first in range(1, before + after + 1):
            total += padded[:, first : first + maps]
        return total

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None]:
        before, after = ctx.reach
        # Who is my neighbour, I am a neighbour of.
        return _Neighbours.apply(upstream, after, before), None, None
