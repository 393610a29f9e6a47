"""The benchmark: what is measured, how a ratio is taken, and that the committed results are
complete.
"""

import copy
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import pytest
import torch
from torch import nn

from bnkit import paths
from bnkit.__main__ import main
from bnkit.bench import bank, layer, networks
from bnkit.layers import BatchNorm
from bnkit.layers.local_response_norm import LocalResponseNorm
from bnkit.networks.bank import Bank
from bnkit.networks.inception import Block, small_inception
from bnkit.networks.mlp import MLP
from bnkit.runs import pool

# The paper's Figure 5 row by row: map side, then the widths that are normalised at that side (those
# behind stride 2 are written at the next smaller one).
TABLE = [
    (112, [64]),
    (56, [64, 192]),
    (28, [64, 64, 64, 64, 96, 96, 32]),  # 3a: 1x1, reduce, 3x3, reduce, d3x3 twice, projection
    (28, [64, 64, 96, 64, 96, 96, 64]),  # 3b
    (28, [128, 64, 96]),  # 3c, before stride 2
    (14, [160, 96]),  # 3c, behind it
    (14, [224, 64, 96, 96, 128, 128, 128]),  # 4a
    (14, [192, 96, 128, 96, 128, 128, 128]),  # 4b
    (14, [160, 128, 160, 128, 160, 160, 128]),  # 4c
    (14, [96, 128, 192, 160, 192, 192, 128]),  # 4d
    (14, [128, 192, 256]),  # 4e, before stride 2
    (7, [192, 256]),  # 4e, behind it
    (7, [352, 192, 320, 160, 224, 224, 128]),  # 5a
    (7, [352, 192, 320, 192, 224, 224, 128]),  # 5b
]


def test_the_shapes_are_all_those_of_the_papers_table():
    wanted = {(32, channels, side, side) for side, widths in TABLE for channels in widths}
    assert set(layer.INCEPTION_SHAPES) == wanted
    assert len(layer.INCEPTION_SHAPES) == len(wanted)
    assert set(layer.COMPILED) | layer.QUICK <= wanted | {layer.MNIST_SHAPE}


def test_a_ratio_is_the_time_of_the_peer_over_that_of_ours(monkeypatch):
    """By a clock that the calls themselves move on, so that a busy machine has no part in it."""
    clock = [0.0]
    monkeypatch.setattr(time, "thread_time", lambda: clock[0])
    takes = {"ours": 0.002, "peer": 0.004, "copy": 0.0004}
    calls = {
        name: lambda seconds=seconds: clock.__setitem__(0, clock[0] + seconds)
        for name, seconds in takes.items()
    }
    row = layer.row(calls, 3, "cpu", what="layer", shape=[1])
    assert row.ratios["peer"] == pytest.approx([2, 2, 2])
    # five times the tensor, a copy twice
    assert row.ratios["the limit"] == pytest.approx([0.5] * 3)
    assert row.times["ours"] == pytest.approx([0.002] * 3)
    assert "2.0" in str(row)


def test_the_clock_is_the_time_of_the_thread():
    """For real: what works takes at least as long as it works."""

    def work() -> None:
        until = time.thread_time() + 0.004
        while time.thread_time() < until:
            pass

    times = layer.measure({"work": work}, rounds=3)["work"]
    assert 0.004 <= times.min() < 0.008


def test_sleeping_is_not_counted_on_a_cpu():
    times = layer.measure({"asleep": lambda: time.sleep(0.01)}, rounds=2, seconds=0)
    assert times["asleep"].max() < 0.005


def test_quartiles_are_those_of_the_rounds():
    assert layer.quartiles(np.array([4.0, 1.0, 2.0, 3.0, 5.0])) == [2.0, 3.0, 4.0]


@pytest.fixture
def one_thread_for_each_process(monkeypatch):
    """A thread of this process in the place of each that would import torch for five seconds;
    processes have their own tests, in ``runs/test_experiments.py``."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(pool, "processes", ThreadPoolExecutor)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def nothing_measured(monkeypatch):
    """Every row as it would be, with a time of 1 and no memory for everything."""
    monkeypatch.setattr(networks, "memory", dict)
    monkeypatch.setattr(
        layer, "measure", lambda calls, rounds, device: {name: np.ones(3) for name in calls}
    )


def identity(row):
    return (
        row["what"],
        tuple(row["shape"]),
        row["layout"],
        row["dtype"],
        tuple(sorted(row["ratios"])),
    )


def test_quick_measures_and_stores(nothing_measured, tmp_path, capsys):
    assert main(["bench", "--quick", "--json", str(tmp_path / "cpu.json")]) == 0
    found = json.loads((tmp_path / "cpu.json").read_text())
    assert found["device"] == "cpu"
    assert found["manifest"]["versions"]["torch"] == torch.__version__
    assert {row["what"] for row in found["rows"]} == {
        "layer",
        "layer with ReLU",
        "training",
        "training with BN",
        "reference",
        "small Inception",
        "bank",
        "bank with BN",
    }
    assert all(
        row["path"].startswith("ATen") for row in found["rows"] if row["what"].startswith("layer")
    )
    printed = capsys.readouterr().out
    assert printed.count("\n") == len(found["rows"]) + 4


def test_a_step_is_a_forward_and_a_backward_pass():
    """Of ours and of the peer, on the layout that the row names; measured for real, but briefly."""
    row = layer.layer(
        (4, 3, 5, 5), "channels last", torch.float32, rounds=1, device="cpu", relu=True
    )
    assert set(row.times) == {"ours", "torch.nn, then ReLU", "torch.nn, then ReLU in place"}
    assert all(0 < seconds < 1 for each in row.times.values() for seconds in each)


def test_a_step_of_the_small_network_is_a_step(monkeypatch):
    """For real: every network, the loop by hand and the pictures alone, in seconds for one step."""
    monkeypatch.setattr(networks, "STEPS", 1)
    with pool.one_thread():  # several would wait for each other, busily, while other tests run
        row = networks.small(rounds=1, device="cpu")
    parts = {"its convolutions", "its pictures"}
    assert set(row.times) == {"ours", "inception", "bn-x5", "a plain torch loop", *parts}
    assert sum(row.times[part][1] for part in parts) < row.times["ours"][1] < 1
    assert (
        50
        < row.memory["built, not trained"]
        < min(row.memory["ours"], row.memory["a plain torch loop"])
        < 5_000
    )


def test_the_plain_way_is_the_same_network():
    """Same outputs, same gradients, same number of parameters; our joint module and our LRN are
    gone."""
    ours = small_inception(norm=nn.BatchNorm2d, lrn=True).double()
    plain = networks.as_drawn(copy.deepcopy(ours)).double()
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(plain(x), ours(x), equal_nan=False)
    for network in (ours, plain):
        network(x).pow(2).sum().backward()
    torch.testing.assert_close(
        plain.stem[0].conv.weight.grad, ours.stem[0].conv.weight.grad, equal_nan=False
    )
    counts = [
        sum(parameter.numel() for parameter in network.parameters()) for network in (ours, plain)
    ]
    assert counts[0] == counts[1]
    kinds = {type(module) for module in plain.modules()}
    assert nn.LocalResponseNorm in kinds
    assert not kinds & {LocalResponseNorm, Block}


def test_cores_take_their_turns(monkeypatch, one_thread_for_each_process):
    """For real, with one core and one turn: both ways make as many steps. (More threads would wait
    for other tests.)"""
    monkeypatch.setattr(networks, "TURNS", 1)
    monkeypatch.setattr(networks, "STEPS", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    row = networks.small_on_several_cores(rounds=1)
    assert row.path == "1 core"
    assert all(0 < seconds < 5 for each in row.times.values() for seconds in each)
    plain, ours = (row.times[way][1] for way in ("a plain torch loop", "ours"))
    assert row.ratios["a plain torch loop"][1] == pytest.approx(plain / ours, rel=1e-2)


def test_a_bank_takes_its_turns_and_its_products_are_those_of_a_step(monkeypatch):
    """For real, briefly; and the products have the shapes of the step that they stand for."""
    monkeypatch.setattr(bank, "STEPS", 1)
    monkeypatch.setattr(bank, "TOGETHER", 2)
    for norm, peer in ((None, None), (BatchNorm, nn.BatchNorm1d)):
        row = bank.one_core(norm, peer, rounds=1)
        assert set(row.times) == {"ours", "a plain torch loop", "its matrix products"}
        assert all(0 < seconds < 1 for each in row.times.values() for seconds in each)
    x, labels = torch.zeros(bank.SHAPE), torch.zeros(bank.SHAPE[0], dtype=torch.int64)
    one = Bank([MLP(784)] * 2, [2], [0.1] * 2, bank.SHAPE[0])
    products = bank.Products(2)
    products.step(x)
    one.step([x], [labels])
    assert products.first.shape == one.first[0].value.shape
    assert products.joint.shape == one.joint.shape
    for weight, later in zip(products.later, one.later, strict=True):
        assert weight.shape == later.value.shape


def test_figure_1_on_the_cores_there_are(monkeypatch, one_thread_for_each_process):
    """For real, on one core and few steps."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(bank, "WALL_STEPS", 2)
    row = bank.several_cores(rounds=1)
    assert row.path == "1 core"
    assert set(row.times) == {"ours", "a plain torch loop"}


def test_a_place_for_the_result_that_is_none_is_refused_before_anything_is_measured(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(layer, "rows", lambda *_: pytest.fail("it measures"))
    assert main(["bench", "--json", str(tmp_path)]) == 1
    assert "is a folder" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(capsys):
    assert main(["bench", "--device", "cuda"]) == 1
    assert "torch sees no GPU here" in capsys.readouterr().err


def test_the_committed_result_has_every_row(monkeypatch):
    """And nothing that cannot be: quartiles in order, ratios that fit the times."""
    monkeypatch.setattr(networks, "memory", dict)
    found = json.loads((paths.root() / "data" / "bench" / "cpu.json").read_text())
    monkeypatch.setattr(
        layer, "measure", lambda calls, rounds, device: {name: np.ones(3) for name in calls}
    )
    monkeypatch.setattr(layer, "can_compile", lambda device: True)
    # which alone would import a compiler
    monkeypatch.setattr(torch, "compile", lambda layer: layer)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    # 100 MB each, for nothing
    monkeypatch.setattr(torch, "randn", lambda shape, generator=None: torch.empty(shape))
    monkeypatch.setattr(torch, "randn_like", torch.empty_like)
    every = chain(*(part.rows(rounds=1) for part in (layer, networks, bank)))
    expected = [identity(row._asdict()) for row in every if row.what != "reference"]
    stored = [identity(row) for row in found["rows"] if row["what"] != "reference"]
    assert stored == expected
    assert [
        tuple(row["shape"]) for row in found["rows"] if row["what"] == "reference"
    ] == layer.REFERENCE_SHAPES
    for row in found["rows"]:
        for low, middle, high in [*row["times"].values(), *row["ratios"].values()]:
            assert 0 < low <= middle <= high
        for peer, (low, _, high) in row["ratios"].items():
            if peer != "the limit":
                of_medians = row["times"][peer][1] / row["times"]["ours"][1]
                assert 0.5 * low < of_medians < 2 * high
        if row["what"] == "small Inception":
            assert 50 < row["memory"]["built, not trained"] < row["memory"]["ours"] < 5_000
    assert found["manifest"]["dirty"] is False
    assert found["manifest"]["platform"]["threads"] == 1
