"""Batch Renormalization (Ioffe 2017, Algorithm 1): in bounds, BN trains with what it will infer.

The mini-batch still normalises; a scale r and a shift d then bring the result to where the moving
averages would have put it. Both are constants to the gradient. With r = 1 and d = 0 this is BN;
without bounds on r and d it is normalisation by the moving averages.
"""

import torch
from torch import Tensor, nn


class BatchRenorm(nn.Module):
    """Batch Renormalization over all axes but 1. Shapes: (m, d) or (N, C, ...) -> the same.

    `new_weight` is the share of the new batch in the moving averages (alpha of the paper). The
    bounds `r_max`, at least 1, and `d_max`, at least 0, are plain attributes: the paper starts as
    BN and loosens them during training. The moving averages are of the mean and of the *standard
    deviation*, as in the paper. Raises ValueError for bounds out of range and for a training batch
    with one value per feature.
    """

    def __init__(
        self, features: int, *, r_max=1.0, d_max=0.0, new_weight: float = 0.01, eps: float = 1e-5
    ):
        super().__init__()
        self.r_max, self.d_max, self.new_weight, self.eps = r_max, d_max, new_weight, eps
        self.weight = nn.Parameter(torch.ones(features))  # gamma
        self.bias = nn.Parameter(torch.zeros(features))  # beta
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_std", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        mean, std = self._batch(x) if self.training else (self.running_mean, self.running_std)
        x_hat = (x - self._wide(mean, x)) / self._wide(std, x)
        if self.training:
            if (self.r_max, self.d_max) != (1, 0):  # else r is 1 and d is 0: BN
                r, d = self.correction(mean.detach(), std.detach())
                x_hat = x_hat * self._wide(r, x) + self._wide(d, x)
            with torch.no_grad():
                self.running_mean.lerp_(mean.detach(), self.new_weight)
                self.running_std.lerp_(std.detach(), self.new_weight)
        return self._wide(self.weight, x) * x_hat + self._wide(self.bias, x)

    def correction(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """r and d for a batch of this mean and standard deviation, in bounds. Shapes: (d,) each."""
        if not (self.r_max >= 1 and self.d_max >= 0):
            bounds = f"r_max={self.r_max} must be at least 1 and d_max={self.d_max} at least 0"
            raise ValueError(bounds)
        r = (std / self.running_std).clamp(1 / self.r_max, self.r_max)
        d = ((mean - self.running_mean) / self.running_std).clamp(-self.d_max, self.d_max)
        return r, d

    def _batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.numel() == x.shape[1]:
            what = f"one value per feature, {tuple(x.shape)}, has no variance"
            raise ValueError(f"{what}: use two or more, or eval()")
        axes = [axis for axis in range(x.ndim) if axis != 1]
        var, mean = torch.var_mean(x, axes, correction=0)
        return mean, torch.sqrt(var + self.eps)

    @staticmethod
    def _wide(feature: Tensor, x: Tensor) -> Tensor:
        return feature.view(-1, *[1] * (x.ndim - 2))
