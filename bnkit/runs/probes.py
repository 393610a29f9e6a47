"""What to watch while a network trains. A probe leaves no trace: weights, buffers and mode stay
bit-equal.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PERCENTILES = (15, 50, 85)  # those of Figure 1(b, c)


@contextmanager
def inference(model: nn.Module, batches: Iterable[Tensor]) -> Iterator[nn.Module]:
    """Inside, `model` is the inference network of Algorithm 2; afterwards it is what it was.

    The parameters are frozen, every mini-batch of `batches` passes through, and each normalisation
    takes the plain average of its batch means and of its unbiased batch variances (lines 7 to 10).
    One pass serves all layers: while the averages are collected, a layer below normalises by the
    mini-batch, as in training; the paper leaves this open. Other layers (Dropout, say) are in
    evaluation mode throughout.

    Works for any module with PyTorch's running statistics, ours or theirs.
    """
    norms = [m for m in model.modules() if getattr(m, "running_mean", None) is not None]
    modes = {module: module.training for module in model.modules()}
    kept = [(norm, norm.momentum, [buffer.clone() for buffer in norm.buffers()]) for norm in norms]
    try:
        model.eval()
        with torch.no_grad():
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # PyTorch's word for the cumulative, that is plain, average
                norm.train()
            if norms:
                for batch in batches:
                    model(batch)
            model.eval()
            yield model
    finally:
        for norm, momentum, buffers in kept:
            norm.momentum = momentum
            for buffer, value in zip(norm.buffers(), buffers, strict=True):
                buffer.copy_(value)
        for module, mode in modes.items():
            module.training = mode


def accuracy(model: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Share of the examples `x` (n, ...) whose largest output is that of `labels` (n,)."""
    with torch.no_grad():
        return (model(x).argmax(1) == labels).double().mean().item()


def input_of(module: nn.Module, model: nn.Module, x: Tensor) -> Tensor:
    """What `module`, a part of `model`, receives when `model` is given `x`; (n, units) for a hidden
    layer's sigmoid."""
    seen = []
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    try:
        with torch.no_grad():
            model(x)
    finally:
        hook.remove()
    return seen[0]


def percentiles(values: Tensor, percents: tuple[float, ...] = PERCENTILES) -> Tensor:
    """Percentiles of each column: (n, units) -> (units, len(percents))."""
    q = torch.tensor(
        [percent / 100 for percent in percents], dtype=values.dtype, device=values.device
    )
    return torch.quantile(values, q, dim=0).T


def checksum(model: nn.Module) -> str:
    """First 16 hexadecimal digits of the SHA-256 of all parameters: equal weights, bit for bit, or
    not."""
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
