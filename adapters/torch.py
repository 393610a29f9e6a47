"""torch: `nn.BatchNorm1d`, `2d` and `3d`; channels last; compiled."""

import torch
from torch.nn import functional

from bnkit.conformance import Step

INSTALL = "torch==2.13.0"
PACKAGES = ("torch",)
KINDS = {2: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}


def of_layer(kinds=KINDS, memory_format=torch.contiguous_format):
    """What ``examine`` needs of a module with torch's own face."""

    def call(x, gamma, beta, dy, state, training, dtype=None):
        x, dy = (own(v, dtype) for v in (x, dy))
        if x.ndim == 4:
            x, dy = (v.contiguous(memory_format=memory_format) for v in (x, dy))
        bn = kinds[x.ndim](x.shape[1], affine=gamma is not None, dtype=x.dtype).train(training)
        if gamma is not None:
            bn.weight.data, bn.bias.data = (own(v, x.dtype) for v in (gamma, beta))
        if state is not None:
            bn.running_mean, bn.running_var = state
        y = bn(x.requires_grad_())
        gradients = torch.autograd.grad(y, [x, *bn.parameters()], dy)
        gradients = [*gradients, None, None][:3]
        state = bn.running_mean.clone(), bn.running_var.clone()
        return Step(*map(array, (y, *gradients, *state)), state)

    return arguments(call)


def compiled():
    """`functional.batch_norm` under `torch.compile`, once for each shape."""
    torch._dynamo.config.recompile_limit = 10_000
    torch._dynamo.config.accumulated_recompile_limit = 10_000
    training_step = torch.compile(functional.batch_norm, dynamic=False)

    def call(x, gamma, beta, dy, state, training, dtype=None):
        leaves = [None if v is None else own(v, dtype) for v in (x, gamma, beta)]
        given = [leaf.requires_grad_() for leaf in leaves if leaf is not None]
        d = x.shape[1]
        fresh = torch.zeros(d, dtype=leaves[0].dtype), torch.ones(d, dtype=leaves[0].dtype)
        mean, var = (v.clone() for v in (fresh if state is None else state))
        y = training_step(leaves[0], mean, var, *leaves[1:], training)
        dy = own(dy, y.dtype)
        gradients = [*torch.autograd.grad(y, given, dy), None, None][:3]
        return Step(*map(array, (y, *gradients, mean, var)), (mean, var))

    return arguments(call) | {"limit": 300.0}


def arguments(call):
    def half(x, gamma, beta, dy, state):
        return call(x, gamma, beta, dy, state, True, torch.bfloat16)

    return {
        "step": lambda *given: call(*given, True),
        "infer": lambda *given: call(*given, False),
        "bfloat16": half,
        "momentum": 0.1,
        "load": lambda mean, var: (torch.tensor(mean), torch.tensor(var)),
    }


def own(array, dtype=None):
    """As a tensor of its own memory, laid out alike; no tensor has a negative stride."""
    array = array.copy() if min(array.strides, default=0) < 0 else array
    return torch.from_numpy(array).clone().to(dtype or torch.from_numpy(array).dtype)


def array(value):
    if value is None:
        return None
    value = value.detach()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


CARDS = {
    "torch": of_layer,
    "torch, channels last": lambda: of_layer(memory_format=torch.channels_last),
    "torch, compiled": compiled,
}
