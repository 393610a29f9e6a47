"""Second witnesses: claims that hung on a chapter's own run, measured by other code than the chapter's.

Each test measures what the ledger asks for with torch or scikit-learn, in a setting of its own, and
holds it to the ledger's relations. None of the package's studies or networks takes part.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import cross_entropy

from bnkit.claims import ledger

CLAIMS = ledger.read()
GAINS = {nn.Sigmoid: 1.0, nn.Tanh: 1.0, nn.ReLU: 2**0.5}


def holds(claim: str, **values: float) -> None:
    """The ledger's relations, all of them, for values measured here."""
    assert set(values) == set(CLAIMS[claim].measured)
    assert CLAIMS[claim].broken({key: float(value) for key, value in values.items()}) == []


def gaussian(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def layers(
    activation, depth: int, gain: float, bn: bool = False, width: int = 100, bias=0.0, draw=0
):
    """Hidden layers in float64, their weights gain / sqrt(width); biases of random sign."""
    made = []
    for index in range(100 * draw, 100 * draw + depth):
        linear = nn.Linear(width, width).double()
        linear.weight.data = gaussian(width, width, seed=index, scale=gain / width**0.5)
        linear.bias.data = bias * gaussian(width, seed=1000 + index).sign()
        norm = [nn.BatchNorm1d(width).double()] if bn else []
        made.append(nn.Sequential(linear, *norm, activation()))
    return made


def growth(stack: list, batch: int = 128, width: int = 100) -> float:
    """Factor of the squared gradient norm per layer, from the top down to the first layer."""
    x, outputs = gaussian(batch, width, seed=9), []
    for layer in stack:
        x = layer(x)
        x.retain_grad()
        outputs.append(x)
    x.backward(gaussian(batch, width, seed=8))
    first, last = outputs[0].grad.norm(), outputs[-1].grad.norm()
    return float((first / last) ** (2 / (len(stack) - 1)))


def typical(measured) -> float:
    """The geometric mean over draws of the weights: of forty layers one may be far from it."""
    return float(np.exp(np.mean([np.log(measured(draw)) for draw in range(8)])))


def test_c01_c04_gradients_of_forty_layers():
    vanishing = growth(layers(nn.Sigmoid, 40, 1.0))
    he, xavier = (
        typical(lambda draw, gain=gain: growth(layers(nn.ReLU, 40, gain, draw=draw)))
        for gain in (2**0.5, 1.0)
    )
    exploding = [growth(layers(nn.ReLU, 40, gain, bn=True)) for gain in (0.1, 1.0, 2**0.5)]
    holds("C01", over_forty=vanishing**20, relu_with_bn=min(exploding))
    holds("C04", steady=he**20, smaller=xavier**20, exploded=exploding[-1] ** 20)


def test_c03_two_ways_to_saturate():
    x = torch.tensor(5.0, requires_grad=True)
    torch.sigmoid(x).backward()
    by_biases = growth(layers(nn.Tanh, 20, 1.0, bias=3.0))
    by_weights = growth(layers(nn.Tanh, 20, 16.0))
    holds("C03", slope_at_5=x.grad, by_biases=by_biases, by_weights=by_weights)


def moved(activation, bn: bool, change: float, where: str, depth: int = 50, draw=0) -> float:
    """How far the input of the last nonlinearity moves, relative to its size."""
    outputs, x = [], gaussian(128, 100, seed=9)
    for turned in (False, True):
        stack = layers(activation, depth, GAINS[activation] if not bn else 1.0, bn, draw=draw)
        if turned and where == "first":
            weight = stack[0][0].weight.data
            direction = gaussian(*weight.shape, seed=77)
            weight += change * direction * weight.norm() / direction.norm()
        elif turned:
            for layer in stack:
                layer[0].weight.data *= 1 + change
        with torch.no_grad():
            outputs.append(nn.Sequential(*stack[:-1], stack[-1][:-1])(x))
    return float((outputs[1] - outputs[0]).norm() / outputs[0].norm())


def test_c06_small_changes_on_their_way_up():
    numb = moved(nn.Sigmoid, False, 1e-3, "first", 4) / moved(nn.Sigmoid, False, 1e-3, "first", 3)
    holds(
        "C06",
        relu=typical(lambda draw: moved(nn.ReLU, False, 1e-6, "first", draw=draw)) / 1e-6,
        relu_with_bn=moved(nn.ReLU, True, 1e-6, "first") / 1e-6,
        sigmoid_layer=numb,
        scale=moved(nn.ReLU, False, 0.01, "scale"),
        scale_with_bn=moved(nn.ReLU, True, 0.01, "scale"),
    )


# Small networks on digits, in torch


class Data:
    """scikit-learn's digits by another split than the package's: the first 1,400 are to learn."""

    def __init__(self):
        x, y = load_digits(return_X_y=True)
        x = torch.tensor(x / 16 - 0.3, dtype=torch.float32)
        y = torch.tensor(y)
        self.x, self.y, self.x_test, self.y_test = x[:1400], y[:1400], x[1400:], y[1400:]


@pytest.fixture(scope="module")
def data():
    return Data()


def network(width: int, activation, norm: str, seed: int, gain: float = 1.0, depth: int = 2):
    """`norm`: "none", "before" or "after" the nonlinearity, "fixed" for gamma 1 and beta 0."""
    torch.manual_seed(seed)
    parts = []
    for inputs, units in pairwise([64, *[width] * depth]):
        linear = nn.Linear(inputs, units)
        nn.init.normal_(linear.weight, std=gain / inputs**0.5)
        nn.init.zeros_(linear.bias)
        bn = nn.BatchNorm1d(units, affine=norm != "fixed", momentum=None)
        before, after = [bn] * (norm in ("before", "fixed")), [bn] * (norm == "after")
        parts += [linear, *before, activation(), *after]
    return nn.Sequential(*parts, nn.Linear(width, 10))


def batches(data: Data, steps: int, size: int, seed: int, classes: int = 10):
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(data.y.numpy() == k) for k in range(10)]
    for _ in range(steps):
        if classes == 10:
            yield torch.from_numpy(generator.choice(len(data.x), size, replace=False))
        else:
            chosen = generator.choice(10, classes, replace=False)
            parts = [generator.choice(members[k], size // classes) for k in chosen]
            yield torch.from_numpy(np.concatenate(parts))


def learn(net, data, rate=0.5, steps=200, size=60, seed=0, classes=10, learning=None):
    """Plain gradient descent; the mean loss of the last sixth of the steps."""
    optimiser, losses = torch.optim.SGD(learning or net.parameters(), lr=rate), []
    for batch in batches(data, steps, size, seed, classes):
        loss = cross_entropy(net.train()(data.x[batch]), data.y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses[-max(1, steps // 6) :]))


def right(net, data, classes: int = 10) -> float:
    """Test accuracy, statistics of 20 training mini-batches of the kind, the network held still."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
    with torch.no_grad():
        for batch in batches(data, 20, 60, 99, classes):
            net.train()(data.x[batch])
        return float((net.eval()(data.x_test).argmax(1) == data.y_test).float().mean())


def reach_eighty(data, gains, rates, bn: bool, steps: int = 150) -> int:
    """How many pairs of gain and rate pass 80 %: sigmoid networks of 3 x 30, all at once."""
    pairs = torch.tensor([(gain, rate) for gain in gains for rate in rates])
    torch.manual_seed(0)
    weights, biases = [], []
    for inputs, units in pairwise([64, 30, 30, 30, 10]):
        gain = pairs[:, :1, None] if units == 30 else 1.0
        drawn = gain * torch.randn(inputs, units).expand(len(pairs), -1, -1) / inputs**0.5
        weights.append(drawn.clone().requires_grad_())
        biases.append(torch.zeros(len(pairs), 1, units, requires_grad=True))

    def outputs(x, moments=None):
        seen = []
        for weight, bias in zip(weights[:-1], biases, strict=False):
            x = x @ weight
            if bn:
                now = x.mean(1, True), x.var(1, correction=0, keepdim=True)
                mean, var = moments[len(seen)] if moments else now
                seen.append((mean, var))
                x = (x - mean) / torch.sqrt(var + 1e-5)
            x = torch.sigmoid(x + bias)
        return x @ weights[-1] + biases[-1], seen

    for batch in batches(data, steps, 32, 0):
        logits, _ = outputs(data.x[batch])
        labels = data.y[batch].expand(len(pairs), -1)
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        parameters = [*weights, *biases]
        slopes = torch.autograd.grad(loss.view(len(pairs), -1).mean(1).sum(), parameters)
        with torch.no_grad():
            for value, slope in zip(parameters, slopes, strict=True):
                value -= pairs[:, 1, None, None] * slope
    with torch.no_grad():
        _, moments = outputs(data.x[:500])
        named = outputs(data.x_test, moments)[0].argmax(2)
    return int(((named == data.y_test).float().mean(1) > 0.8).sum())


def test_c07_where_training_works(data):
    """The chapter's settings, with fewer steps and one seed."""
    gains, rates = (0.01, 0.1, 0.3, 1, 3, 10), (0.001, 0.01, 0.1, 1, 3, 10, 100)
    with_bn, without = (reach_eighty(data, gains, rates, bn) for bn in (True, False))
    holds("C07", settings=len(gains) * len(rates), with_bn=with_bn, without_bn=without)


def test_c12_c22_standardising_is_not_whitening():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 4)).cumsum(axis=1) + 5  # neighbours share most of what they are

    def largest(z):
        return np.abs(np.corrcoef(z.T) - np.eye(z.shape[1])).max()

    standard = StandardScaler().fit_transform(x)
    scores = PCA(whiten=True)
    white = scores.fit_transform(x) @ scores.components_  # turned back: ZCA
    off = np.abs(np.cov(white.T) - np.eye(4)).max()  # scikit-learn divides by m - 1
    pair = np.corrcoef(x.T)[0, 1], np.corrcoef(standard.T)[0, 1]
    holds("C12", raw=abs(pair[0]), standardized=abs(pair[1]), white=off)
    stretched = [(z, z * (0.5, 3, 2, 1) + (1, 2, 3, 4)) for z in (standard, white)]
    bn, zca = ([largest(z) for z in pair] for pair in stretched)
    holds("C22", bn=min(bn), zca=max(zca))


def test_c17_batches_of_one_class_are_fatal(data):
    accuracy = {}
    for classes in (1, 10):
        runs = []
        for seed in range(2):
            net = network(32, nn.ReLU, "before", seed)
            learn(net, data, 0.1, classes=classes, seed=seed)
            runs.append(right(net, data, classes))
        accuracy[classes] = np.mean(runs)
    centres = np.linspace(-1, 1, 10)
    centres *= (3.36 / centres.var()) ** 0.5
    line = (centres[:, None] + np.random.default_rng(0).normal(size=(10, 6000))).ravel()
    bn = nn.BatchNorm1d(1, momentum=None).double()
    seen = []
    for order in (np.arange(len(line)), np.random.default_rng(1).permutation(len(line))):
        bn.reset_running_stats()
        for part in line[order].reshape(-1, 60, 1):
            bn(torch.from_numpy(part))
        seen.append(bn.running_var.item())
    holds(
        "C17",
        of_sorted=seen[0],
        of_shuffled=seen[1],
        truth=line.var(),
        one_class=accuracy[1],
        all_classes=accuracy[10],
    )


def test_c24_normalising_gains_more_than_gamma_and_beta_add(data):
    """Networks of few units, each kind at the better of two rates."""
    best, losses = {}, {}
    for norm in ("none", "fixed", "before"):
        by_rate = {}
        for rate in (0.5, 2.0):
            runs = []
            for activation in (nn.Sigmoid, nn.ReLU):
                net = network(6, activation, norm, 0)
                loss = learn(net, data, rate)
                runs.append((right(net, data), loss))
            by_rate[rate] = np.mean(runs, axis=0)
        best[norm] = max(accuracy for accuracy, _ in by_rate.values())
        losses[norm] = by_rate[0.5][1]
    holds(
        "C24",
        by_normalising=100 * (best["fixed"] - best["none"]),
        by_pair=100 * (best["before"] - best["fixed"]),
        loss=losses["before"] / losses["fixed"],
    )


def test_c33_weights_are_worth_more_than_gamma_and_beta(data):
    reached = {}
    for name in ("weights", "pair_and_readout", "readout", "pair"):
        runs = []
        for seed in range(3):
            net = network(64, nn.ReLU, "fixed" if name == "weights" else "before", seed)
            pair = [p for m in net if isinstance(m, nn.BatchNorm1d) for p in m.parameters()]
            readout = list(net[-1].parameters())
            learning = {"pair": pair, "readout": readout, "pair_and_readout": pair + readout}
            learn(net, data, seed=seed, learning=learning.get(name))
            runs.append(right(net, data))
        reached[name] = np.mean(runs)
    holds("C33", **reached)


def test_c25_the_premise_holds_and_the_advantage_does_not_follow(data):
    losses, skewed = {}, []
    for place in ("before", "after"):
        runs = []
        for seed in range(3):
            net = network(64, nn.Sigmoid, place, seed)
            runs.append(learn(net, data, 0.1, seed=seed))
        losses[place] = np.mean(runs)
    net = network(64, nn.ReLU, "before", 0)
    learn(net, data, 0.1)
    with torch.no_grad():
        below = net.train()[:3](data.x[:300])
        x = net[3](below)
        for values in (x, torch.relu(net[4](x))):
            values = values[:, values.std(0) > 1e-6].double()
            unit = (values - values.mean(0)) / values.std(0, correction=0)
            skewed.append(abs(float((unit**3).mean())))
    holds(
        "C25",
        skew_before=skewed[0],
        skew_after=skewed[1],
        loss_before=losses["before"],
        loss_after=losses["after"],
    )


def test_c38_c39_a_layer_of_a_convolutional_network():
    conv = nn.Conv2d(3, 4, 3, padding=1, bias=False).double()
    conv.weight.data = gaussian(4, 3, 3, 3, seed=1)
    below = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()).double()
    images = gaussian(6, 1, 8, 8, seed=2)
    with torch.no_grad():
        u = below(images)
        z = nn.Sequential(conv, nn.BatchNorm2d(4).double(), nn.ReLU())(u)
        rows = nn.functional.unfold(u, 3, padding=1)  # (6, 27, 64)
        x = torch.einsum("oi,nil->nol", conv.weight.flatten(1), rows)
        mean, var = x.mean((0, 2), keepdim=True), x.var((0, 2), correction=0, keepdim=True)
        by_hand = torch.relu((x - mean) / torch.sqrt(var + 1e-5)).view_as(z)
    holds("C38", maps=u.shape[1], maps_of_data=images.shape[1])
    holds("C39", error=(by_hand - z).abs().max() / z.abs().max())


def test_c45_one_value_is_one_part_in_m_p_q():
    x = torch.zeros(5, 3, 4, 6, dtype=torch.float64)
    x[2, 1, 3, 5] = 1
    bn = nn.BatchNorm2d(3, momentum=None).double()
    bn(x)
    holds("C45", counted=round(1 / bn.running_mean[1].item()))
