"""The paper's network row by row, and the small one: sizes, counts, and what the arguments
change.
"""

from itertools import pairwise

import pytest
import torch
from torch import nn

from bnkit.layers import BatchNorm
from bnkit.layers.local_response_norm import LocalResponseNorm
from bnkit.networks.inception import Block, Style, Widths, bn_inception, small_inception

# Appendix of the paper (v3, Figure 5): what comes out of each row, maps x height x width, for 224 x
# 224 pixels. Where print and arithmetic disagree (4c, 4d, 4e; the grids of the rows with stride 2),
# arithmetic: see bn_inception.
TABLE = {
    "stem": (192, 28, 28),
    "3a": (256, 28, 28),
    "3b": (320, 28, 28),
    "3c": (576, 14, 14),
    "4a": (576, 14, 14),
    "4b": (576, 14, 14),
    "4c": (608, 14, 14),
    "4d": (608, 14, 14),
    "4e": (1056, 7, 7),
    "5a": (1024, 7, 7),
    "5b": (1024, 7, 7),
}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def outputs(network: nn.Module, size: int) -> dict[str, tuple[int, ...]]:
    """Shapes behind the stem and behind every module; on the meta device, which knows shapes and
    computes nothing."""
    found = {}
    for name, part in {"stem": network.stem, **network.blocks}.items():
        part.register_forward_hook(
            lambda _, __, y, name=name: found.update({name: tuple(y.shape[1:])})
        )
    network.to("meta").eval()(torch.empty(2, 3, size, size, device="meta"))
    return found


def test_every_stage_has_the_size_of_the_table():
    assert outputs(bn_inception(norm=BatchNorm), 224) == TABLE


def test_with_96_filters_the_printed_sums_come_out():
    found = outputs(bn_inception(norm=BatchNorm, projection=(96, 96)), 224)
    assert (found["4c"][0], found["4d"][0], found["4e"][0]) == (576, 576, 1024)
    assert found == TABLE | {"4c": (576, 14, 14), "4d": (576, 14, 14), "4e": (1024, 7, 7)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [  # convolutions + gamma and beta + classifier
        ({"conv_bias": True}, 10_240_192 + 10_016 + 20_032 + 1_025_000),
        ({}, 10_240_192 + 20_032 + 1_025_000),
        ({"projection": (96, 96)}, 10_150_080 + 19_904 + 1_025_000),
        ({"projection": (96, 96), "separable": True}, 10_143_384 + 19_904 + 1_025_000),
    ],
)
def test_the_parameters_are_those_of_the_printed_table(options, expected):
    assert parameters(bn_inception(norm=BatchNorm, **options)) == expected


def test_two_published_counts():
    # what other implementations assert
    assert parameters(bn_inception(norm=BatchNorm, conv_bias=True)) == 11_295_240
    with_tower = bn_inception(norm=BatchNorm, projection=(96, 96), separable=True, side_tower=True)
    assert parameters(with_tower.tower) == 2_416_616
    assert round(parameters(with_tower) / 1e6, 1) == 13.6  # Section 4.2: 13.6 million


def test_the_network_has_69_convolutions_and_2_03_thousand_million_multiplications():
    network = bn_inception(norm=BatchNorm)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    joined = sum(sum(part > 0 for part in block.parts) - 1 for block in network.blocks.values())
    assert len(convolutions) + joined == 69

    work = []
    for module in convolutions:
        module.register_forward_hook(
            lambda m, _, y: work.append(m.weight[0].numel() * y[0].numel())
        )
    network.to("meta").eval()(torch.empty(1, 3, 224, 224, device="meta"))
    assert sum(work) + network.output.weight.numel() == pytest.approx(2.03e9, rel=0.005)


def test_the_side_tower_speaks_in_training_only():
    network = bn_inception(10, norm=BatchNorm, side_tower=True).to("meta")
    x = torch.empty(2, 3, 224, 224, device="meta")
    assert [tuple(each.shape) for each in network.train()(x)] == [(2, 10), (2, 10)]
    assert tuple(network.eval()(x).shape) == (2, 10)


@pytest.mark.parametrize(
    "widths", [Widths(3, 4, 5, 2, 6, "avg", 7), Widths(0, 4, 5, 2, 6, "max", 0, stride=2)]
)
@pytest.mark.parametrize("norm", [BatchNorm, None])
def test_joining_the_1x1_convolutions_changes_nothing(widths, norm):
    """The module of the paper written out with torch's functions, every 1x1 convolution on its
    own."""
    torch.manual_seed(0)
    style = Style(norm=norm)
    block = Block(8, widths, style).double().eval()
    x = torch.randn(3, 8, 9, 9, dtype=torch.float64)
    assert block.maps == widths.maps(8) == block(x).shape[1]

    def unit(u, conv, norm, rows=slice(None)):
        y = nn.functional.conv2d(u, conv.weight[rows], conv.bias[rows], conv.stride, conv.padding)
        if not isinstance(norm, nn.Identity):
            y = nn.functional.batch_norm(
                y,
                norm.running_mean[rows],
                norm.running_var[rows],
                norm.weight[rows],
                norm.bias[rows],
            )
        return y.relu()

    def of(part):
        return part.conv, part.norm

    ends = [
        0,
        widths.one,
        widths.one + widths.reduce,
        widths.one + widths.reduce + widths.double_reduce,
    ]
    one, reduced, pair = (
        unit(x, *of(block.reduce), slice(a, b)) if a < b else x[:, :0] for a, b in pairwise(ends)
    )
    pair = unit(unit(pair, *of(block.pair[0])), *of(block.pair[1]))
    if widths.pool == "avg":
        pooled = nn.functional.avg_pool2d(x, 3, widths.stride, 1, count_include_pad=False)
    else:
        pooled = nn.functional.max_pool2d(x, 3, widths.stride, 1)
    if widths.proj:
        pooled = unit(pooled, *of(block.pool[1]))
    branches = [unit(reduced, *of(block.three)), pair, pooled]
    expected = torch.cat([one, *branches] if widths.one else branches, dim=1)
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_treatment_and_control_differ_in_the_norm_and_in_useless_biases_alone():
    def weights(norm):
        network = small_inception(norm=norm, generator=torch.Generator().manual_seed(0))
        return network, dict(network.named_parameters())

    (with_bn, a), (without, b) = weights(BatchNorm), weights(None)
    for name in a.keys() & b.keys():
        assert torch.equal(a[name], b[name]), name
    norms = {
        f"{name}." for name, module in with_bn.named_modules() if isinstance(module, BatchNorm)
    }
    assert {name for name in a.keys() - b.keys() if not name.startswith(tuple(norms))} == set()
    assert all(name.endswith("conv.bias") for name in b.keys() - a.keys())
    assert not any(isinstance(module, BatchNorm) for module in without.modules())


def test_bn_stands_before_every_nonlinearity():
    network = small_inception(norm=BatchNorm)
    kinds = [
        type(module)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | BatchNorm | nn.ReLU)
    ]
    assert kinds == [nn.Conv2d, BatchNorm, nn.ReLU] * (len(kinds) // 3)


@pytest.mark.parametrize("size", [32, 48, 64])
def test_the_small_network_takes_small_pictures(size):
    network = small_inception(7, norm=BatchNorm)
    assert 240_000 < parameters(network) < 280_000
    assert network.eval()(torch.randn(2, 3, size, size)).shape == (2, 7)


def test_lrn_dropout_and_activation_are_arguments():
    network = small_inception(activation="sigmoid", lrn=True, dropout=0.4)
    found = [type(module) for module in network.modules()]
    assert nn.Sigmoid in found
    assert LocalResponseNorm in found
    assert nn.ReLU not in found
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.4]
    assert LocalResponseNorm not in [type(module) for module in small_inception().modules()]


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation 'swish' is not one of relu, sigmoid"):
        small_inception(activation="swish")


def test_initial_signals_neither_die_nor_explode_without_bn():
    """Weights keep the size of signals through ReLUs, or the control would be handicapped from the
    start."""
    network = small_inception(generator=torch.Generator().manual_seed(0))
    x = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for block in [network.stem, *network.blocks.values()]:
            x = block(x)
            assert 0.2 < x.square().mean().sqrt() < 5
