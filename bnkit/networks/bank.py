"""The network of Section 4.1 many times over, trained side by side with gradients by hand.

Networks that see the same mini-batches are a group: their first layers are one matrix product,
which is most of the work. Every later layer is one product for each network. What happens in one
network, divergence too, leaves the others alone: no number of one is ever summed with another's.

Letters: R networks, k of them in a group, m examples, d units.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from bnkit.networks.mlp import MLP

aten = torch.ops.aten

# What a layer of the model is called -> the nonlinearity g, which writes h = g(z), and what writes
# dz from dh and h, over dh.
ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {
    "Sigmoid": (
        lambda z: torch.sigmoid_(z),
        lambda dh, h: aten.sigmoid_backward.grad_input(dh, h, grad_input=dh),
    ),
    "Tanh": (
        lambda z: torch.tanh_(z),
        lambda dh, h: aten.tanh_backward.grad_input(dh, h, grad_input=dh),
    ),
    "ReLU": (
        lambda z: torch.relu_(z),
        lambda dh, h: aten.threshold_backward.grad_input(dh, h, 0, grad_input=dh),
    ),
}


class Learned:
    """What learns by gradient descent, for several networks, with the memory of its steps.

    A step is a gradient that the learning rates are already in. Shapes: (R, inputs, d), or
    (inputs, k * d), which is k networks side by side.
    """

    def __init__(self, *shape: int, dtype: torch.dtype, momentum: float):
        self.value, self.momentum = torch.empty(shape, dtype=dtype), momentum
        self.across = self.value.mT  # made once: a view costs as much as a small sum
        self.velocity = torch.zeros_like(self.value) if momentum else None

    def descend(self, a: Tensor, b: Tensor) -> None:
        """Take the step ``a @ b``, made where it is used."""
        goal = self.value if self.velocity is None else self.velocity
        memory = {"alpha": -1} if self.velocity is None else {"beta": self.momentum}
        (goal.addmm_ if goal.ndim == 2 else goal.baddbmm_)(a, b, **memory)
        if self.velocity is not None:
            self.value.sub_(self.velocity)

    def move(self, step: Tensor) -> None:
        """Take `step`, of the shape of the value."""
        if self.velocity is not None:
            step = self.velocity.mul_(self.momentum).add_(step)
        self.value.sub_(step)


class Spread(NamedTuple):
    """What a layer's values were multiplied with, (R, 1, d)."""

    inverse: Tensor
    """1 / sqrt(variance + eps), which makes x_hat of what is centred."""
    scale: Tensor
    """gamma times that, which makes y of it, but for beta."""


class Bank:
    """R networks as ``MLP`` makes them, of one shape, all with batch normalization or all without.

    `models` are the networks, those of a group next to each other; `groups` says how many each has.
    `rates` are the learning rates, (R,); `momentum` is that of all. The weights are copied:
    ``write`` puts those of a network back into a model, to be looked at or kept.
    """

    def __init__(
        self, models: Sequence[MLP], groups: Sequence[int], rates: Sequence[float],
        batch_size: int, momentum: float = 0.0,
    ):  # fmt: skip
        if not models or sum(groups) != len(models) or len(rates) != len(models):
            counts = f"{len(models)} networks, {len(rates)} rates, groups of {list(groups)}"
            raise ValueError(
                f"a bank needs a rate and a place in a group for each network: {counts}"
            )
        hidden, self.m, self.groups = models[0].hidden, batch_size, list(groups)
        self.forward_of, self.backward_of = ACTIVATIONS[type(hidden[0].activation).__name__]
        # by hand: the bias of a layer goes where a normalisation stands (``mlp.Layer``)
        self.normalised = hidden[0].linear.bias is None
        inputs, widths = _sizes(models[0])
        about = {"dtype": models[0].output.weight.dtype, "momentum": momentum}
        if self.normalised:
            self.eps = torch.full((1, 1, 1), hidden[0].norm.eps, dtype=about["dtype"])
        networks = len(models)
        # the gradient is scaled once, at the top: what comes out below are steps
        scale = torch.tensor(rates, dtype=torch.float64) / batch_size
        self.scale = scale.to(about["dtype"]).view(-1, 1, 1)
        self.first = [Learned(inputs, count * widths[0], **about) for count in groups]
        self.later = [Learned(networks, *sizes, **about) for sizes in pairwise(widths)]
        self.biases = [Learned(networks, 1, width, **about) for width in widths]  # or beta
        gains = widths[:-1] if self.normalised else []
        self.gains = [Learned(networks, 1, width, **about) for width in gains]  # gamma
        self._make_room(widths[:-1], about["dtype"])
        for place, model in enumerate(models):
            for mine, theirs in self._parts(place, model):
                mine.copy_(theirs)

    def _make_room(self, widths: list[int], dtype: torch.dtype) -> None:
        networks, m = len(self.scale), self.m

        def rooms(*widths: int) -> list[Tensor]:
            return [torch.empty(networks, m, width, dtype=dtype) for width in widths]

        self.h = rooms(*widths)
        self.h_across = [h.mT for h in self.h]
        self.centred = rooms(*widths) if self.normalised else []
        # gradients by turns in two rooms, which so stay in the cache: what a layer wants, and gives
        self.spare = {width: rooms(width, width) for width in widths}
        # of the first layer all networks lie side by side, those of a group in columns of their own
        joint = torch.empty(m, networks * widths[0], dtype=dtype)
        self.columns = joint.split([count * widths[0] for count in self.groups], 1)
        self.joint, self.beside = joint, joint.view(m, networks, -1).transpose(0, 1)
        # sums over the examples are products with ones, fast on every processor tried
        self.sum = torch.ones(1, 1, m, dtype=dtype).expand(networks, 1, m)
        self.mean = (self.sum[:1] / m).expand(networks, 1, m)
        self.minus_mean = torch.tensor(-1 / m, dtype=dtype)
        self.minus_one = torch.tensor(-1, dtype=dtype).expand(networks, 1, m)

    # ---- From a model and back ----

    def _parts(self, place: int, model: MLP) -> Iterator[tuple[Tensor, Tensor]]:
        """Each parameter of network `place`, here and in `model`, in one shape."""
        group, column = self._column(place)
        linear = [layer.linear for layer in model.hidden] + [model.output]
        width = linear[0].out_features
        yield (
            self.first[group].value[:, column * width : (column + 1) * width],
            linear[0].weight.detach().T,
        )
        for later, module in zip(self.later, linear[1:], strict=True):
            yield later.value[place], module.weight.detach().T
        if self.normalised:
            for gain, layer in zip(self.gains, model.hidden, strict=True):
                yield gain.value[place, 0], layer.norm.weight.detach()
        shifts = [layer.norm if self.normalised else layer.linear for layer in model.hidden]
        for bias, module in zip(self.biases, [*shifts, model.output], strict=True):
            yield bias.value[place, 0], module.bias.detach()

    def _column(self, place: int) -> tuple[int, int]:
        """The group of network `place`, and which of the group it is."""
        for group, count in enumerate(self.groups):
            if place < count:
                return group, place
            place -= count
        raise IndexError(place)

    def write(self, place: int, model: MLP) -> None:
        """Put the weights of network `place` into `model`."""
        for mine, theirs in self._parts(place, model):
            theirs.copy_(mine)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and the optimiser's memory, by name: all that a checkpoint has to keep."""
        kinds = {"first": self.first, "later": self.later, "bias": self.biases, "gain": self.gains}
        parts = {f"{kind}/{n}": one for kind, those in kinds.items() for n, one in enumerate(those)}
        values = {name: part.value for name, part in parts.items()}
        memory = {name: part.velocity for name, part in parts.items()}
        return values | {f"velocity/{name}": v for name, v in memory.items() if v is not None}

    def nbytes(self) -> int:
        """What the bank holds in memory: weights, the optimiser's memory, and room for a step."""
        rooms = [*self.h, *self.centred, *chain(*self.spare.values()), self.joint]
        return sum(tensor.nbytes for tensor in [*self.tensors().values(), *rooms])

    # ---- One step ----

    def step(self, xs: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
        """One step of gradient descent for all; the mean cross-entropies before it, in nats, (R,).

        `xs` and `labels` are the mini-batch of each group, (m, inputs) and (m,).
        """
        for x, first, columns in zip(xs, self.first, self.columns, strict=True):
            torch.mm(x, first.value, out=columns)
        spreads = [self._forward(layer) for layer in range(len(self.h))]
        losses, dz = self._loss(labels)
        for layer in reversed(range(len(self.h))):
            h = self.h[layer]
            dh = self._room(h, but=dz)
            torch.bmm(dz, self.later[layer].across, out=dh)
            self.later[layer].descend(self.h_across[layer], dz)
            if layer + 1 == len(self.h) or not self.normalised:
                self.biases[layer + 1].descend(self.sum, dz)
            dz = self.backward_of(dh, h)
            if self.normalised:
                dz = self._through_norm(layer, dz, spreads[layer])
        if not self.normalised:
            self.biases[0].descend(self.sum, dz)
            self.beside.copy_(dz)
        for x, first, columns in zip(xs, self.first, self.columns, strict=True):
            first.descend(x.T, columns)
        return losses

    def _room(self, like: Tensor, but: Tensor) -> Tensor:
        """A room of the shape of `like` that `but` does not lie in."""
        first, second = self.spare[like.shape[2]]
        return second if but is first else first

    def _forward(self, layer: int) -> Spread | None:
        """Fill ``h[layer]``; what BN has made of it, where there is BN."""
        z, bias, spread = self.h[layer], self.biases[layer].value, None
        if layer:
            torch.bmm(self.h[layer - 1], self.later[layer - 1].value, out=z)
        if self.normalised:
            centred = self._centre(layer, z)
            square = torch.mul(centred, centred, out=z)  # of what is centred: nothing cancels
            inverse = torch.baddbmm(self.eps, self.mean, square).rsqrt_()
            spread = Spread(inverse, self.gains[layer].value * inverse)
            torch.addcmul(bias, centred, spread.scale, out=z)
        elif layer:
            z += bias
        else:
            torch.add(self.beside, bias, out=z)
        self.forward_of(z)
        return spread

    def _centre(self, layer: int, z: Tensor) -> Tensor:
        """What a layer normalises, less its mean over the mini-batch, (R, m, d)."""
        centred = self.centred[layer]
        if layer:
            return torch.sub(z, torch.bmm(self.mean, z), out=centred)
        mean = torch.mm(self.mean[0], self.joint).view(-1, 1, centred.shape[2])
        return torch.sub(self.beside, mean, out=centred)

    def _loss(self, labels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean cross-entropies (R,), and their gradients by the outputs, times the rates."""
        # classes before examples: a softmax over the last axis, ten long, takes ten times as long
        weight, bias = self.later[-1].across, self.biases[-1].across
        logs = torch.log_softmax(torch.baddbmm(bias, weight, self.h_across[-1]), 1)
        of_each = zip(labels, self.groups, strict=True)
        right = torch.cat([label.expand(count, -1) for label, count in of_each]).unsqueeze(1)
        losses = logs.gather(1, right).mean((1, 2)).neg_()
        dz = logs.exp_().scatter_add_(1, right, self.minus_one).mul_(self.scale)
        return losses, dz.mT

    def _through_norm(self, layer: int, dy: Tensor, spread: Spread) -> Tensor:
        """The gradient before BN from `dy` behind it (Section 3); gamma and beta take their step.

        That of the first layer is left where all networks lie side by side.
        """
        centred, (inverse, scale) = self.centred[layer], spread
        room = self._room(dy, but=dy)
        dgamma = torch.bmm(self.sum, torch.mul(dy, centred, out=room)).mul_(inverse)
        dbeta = torch.bmm(self.sum, dy)
        # dz = scale (dy - dbeta / m - x_hat dgamma / m), where x_hat = centred inverse
        share = scale * self.minus_mean
        shift, slope = share * dbeta, share.mul_(inverse).mul_(dgamma)
        goal = room if layer else self.beside
        torch.addcmul(shift, centred, slope, out=goal)
        goal.addcmul_(dy, scale)
        self.gains[layer].move(dgamma)
        self.biases[layer].move(dbeta)
        return room


def _sizes(model: MLP) -> tuple[int, list[int]]:
    """Inputs of the network, and the units of every layer, the last included."""
    linear = [layer.linear for layer in model.hidden] + [model.output]
    return linear[0].in_features, [module.out_features for module in linear]
