"""What to watch while a network trains. A probe leaves no trace: the model stays bit-equal."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

PERCENTILES = (15, 50, 85)  # those of Figure 1(b, c)


@contextmanager
def inference(model: nn.Module, batches: Iterable[Tensor]) -> Iterator[nn.Module]:
    """Inside, `model` is the inference network of Algorithm 2; afterwards it is what it was.

    The parameters are frozen, every mini-batch of `batches` passes through, and each normalisation
    takes the plain average of its batch means and of its unbiased batch variances (lines 7 to 10).
    One pass serves all layers: meanwhile a layer below normalises by the mini-batch, as in
    training; the paper leaves this open. Other layers (Dropout, say) are in evaluation mode.

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


@contextmanager
def received(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Inside, what `modules` are given is kept, in the order of the calls."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].clone())  # a copy: a nonlinearity may work in place

    hooks = [module.register_forward_pre_hook(keep) for module in modules]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def inputs_of(modules: Iterable[nn.Module], model: nn.Module, x: Tensor) -> list[Tensor]:
    """What `modules`, parts of `model`, receive when it is given `x`, in the order of the calls."""
    with received(modules) as seen, torch.no_grad():
        model(x)
    return seen


def percentiles(values: Tensor) -> Tensor:
    """``PERCENTILES`` of each column: (n, units) -> (units, 3)."""
    # as ``torch.quantile`` has them; its sort takes most of an evaluation, NumPy's is vectorised
    ordered = torch.from_numpy(np.sort(values.T.cpu().numpy(), axis=1)).to(values.device)
    ranks = values.new_tensor([percent / 100 for percent in PERCENTILES]) * (len(values) - 1)
    below = ranks.floor()
    low, high = (ordered[:, rank.long()] for rank in (below, ranks.ceil()))
    return torch.lerp(low, high, (ranks - below).expand_as(low))


def checksum(model: nn.Module) -> str:
    """First 16 hexadecimal digits of the SHA-256 of all parameters: equal where all bits are."""
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
