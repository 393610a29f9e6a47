"""The studies of chapter 10: each against a case worked out elsewhere, and what must not happen
when nothing does.
"""

import numpy as np
import pytest
import torch
from conftest import assert_close
from seeds import Fixed

from bnkit import reference
from bnkit.layers.batch_renorm import BatchRenorm
from bnkit.networks import many_numpy, many_torch, parts
from bnkit.networks.digits import Digits
from bnkit.runs import records
from bnkit.runs.tasks.centre_scale import KINDS, PLAIN, RATES
from bnkit.runs.tasks.linear import LENGTHS
from bnkit.studies import shift
from bnkit.studies.after import (
    centre_scale,
    decay,
    features,
    few_classes,
    ghosts,
    linear,
    normfree,
    populations,
    sequences,
    small_batches,
    smoothness,
)

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits():
    return Digits.load()


# Noise and landscape


def test_amplified_noise_multiplies_its_distance_from_doing_nothing():
    noise = lambda layer, shape: (np.full(shape, 1.5, np.float32), np.full(shape, -0.2, np.float32))  # noqa: E731
    scale, offset = smoothness.amplified(noise, np.array([0.0, 1.0, 4.0]))(0, (3, 2, 5))
    assert_close(scale[:, 0, 0], np.array([1.0, 1.5, 3.0], np.float32))
    assert_close(offset[:, 0, 0], np.array([0.0, -0.2, -0.8], np.float32))


def test_noise_of_strength_0_is_none_and_much_noise_does_harm(digits):
    options = {"rate": 0.3, "depth": 2, "seeds": 1, "steps": 40}
    found = smoothness.with_noise(
        digits, "relu", True, (0, 100), shift.noisy(np.random.default_rng(0)), **options
    )
    networks = smoothness.build(digits, "relu", True, [0], 2)
    for _ in many_numpy.train(networks, digits.x, digits.labels, 0.3, 40, 50):
        pass
    assert found.shape == (2, 1)
    assert_close(found[0], digits.test(networks))
    assert found[1, 0] < found[0, 0] - 0.1


def test_following_the_landscape(digits):
    path = smoothness.follow(
        digits, "relu", True, (0.01, 0.3), depth=2, seeds=2, steps=20, looks=5, width=16
    )
    assert path.steps[[0, -1]].tolist() == [0, 20]
    assert path.range.shape == path.change.shape == path.smoothness.shape == (len(path.steps), 2, 2)
    assert path.accuracy.shape == (2, 2)
    # equal weights and mini-batch at the start, whatever the rate
    assert_close(path.loss[0, 0], path.loss[0, 1])
    assert path.loss[-1].mean() < path.loss[0].mean()


@pytest.mark.parametrize("m", [3, 20])
def test_theorem_4_1_is_an_equality_with_1_over_m_only(m):
    rng = np.random.default_rng(m)
    x, dy, gamma = rng.normal(3, 2, (m, 40)), rng.normal(1, 1, (m, 40)), rng.normal(size=40)
    left, right = smoothness.theorem(x, gamma, dy, 1 / m)
    assert_close(left, right)
    for wrong in (m**-0.5, 0.0):
        assert np.abs(smoothness.theorem(x, gamma, dy, wrong)[1] / left - 1).max() > 0.01


def test_the_passage_through_every_bn_multiplies_out(digits):
    """Scale times kept share, unit by unit, is what ``reference.backward`` hands down; here for one
    unit a layer."""
    networks = smoothness.build(digits, "relu", True, [0, 1], 2, 1)
    for layer in networks.layers:
        layer.update({name: value.astype(float) for name, value in layer.items()})
    x, labels = digits.x[:30].astype(float), digits.labels[:30]
    found = smoothness.passage(networks, x, labels)
    outputs, tape = many_numpy.forward(networks, x)
    _, d_inputs = many_numpy.backward(networks, tape, many_numpy.cross_entropy(outputs, labels)[1])
    for index in range(2):
        dy = (d_inputs[index + 1] * (tape[index].y > 0))[:, :, 0].T  # (m, R): one unit each
        dx = reference.backward(dy, tape[index].cache)[0]
        product = found.scale[index] * found.kept[index]
        # up to epsilon, which x_hat feels
        assert_close(product, (dx**2).sum(0) / (dy**2).sum(0), 1e-3)


# Weight decay


def test_without_decay_the_weights_grow_by_pythagoras(digits):
    setting = decay.Setting(rate=0.5, decay=0.0)
    course = decay.follow(digits, [setting], seeds=1, steps=12, width=10)
    # wrong where units differ
    grown = course.norm[0] + np.cumsum(setting.rate**2 * course.pull / course.norm, axis=0)
    assert (np.diff(course.norm[:, 0, 0]) > 0).all()
    assert_close(course.norm[1:, 0], grown[:-1, 0], 0.02)


def test_balance_by_hand():
    setting = decay.Setting(rate=0.1, decay=0.2)
    square = decay.predicted_norm(setting, pull=0.3)
    exact = (1 - 0.02) ** 2 * square + 0.01 * 0.3 / square
    assert abs(exact / square - 1) < 0.02**2 * 1.01
    assert decay.predicted_angle(setting) == 0.2


def test_the_course_is_that_of_plain_steps(digits):
    """Two steps of one network, by hand."""
    setting = decay.Setting(rate=0.7, decay=0.05)
    course = decay.follow(digits, [setting, decay.Setting(0.1, 0.0)], seeds=1, steps=2, width=6)
    networks = digits.build("relu", True, setting.gain, [0], 2, 6)
    norms, angles = [], []
    for _, chosen in zip(range(2), many_numpy.datasets.batches(1500, 50, 0), strict=False):
        outputs, tape = many_numpy.forward(networks, digits.x[chosen])
        gradients, _ = many_numpy.backward(
            networks, tape, many_numpy.cross_entropy(outputs, digits.labels[chosen])[1]
        )
        before = networks.layers[1]["weight"].copy()
        for index, (layer, gradient) in enumerate(zip(networks.layers, gradients, strict=True)):
            for name, value in layer.items():
                hidden = index < 2 and name == "weight"
                value -= (0.7 if hidden else 0.1) * (
                    gradient[name] + (0.05 * value if hidden else 0)
                )
        after = networks.layers[1]["weight"]
        norms.append((before**2).sum(1).mean())
        cosine = (before * after).sum(1) / np.sqrt((before**2).sum(1) * (after**2).sum(1))
        angles.append((np.arccos(np.clip(cosine, -1, 1)) ** 2).mean())
    assert_close(course.norm[:, 0, 0], norms, 1e-5)
    assert_close(course.turn[:, 0, 0], angles, 1e-2)  # the arc cosine loses digits near 1


def test_a_twin_without_decay_goes_the_same_way(digits):
    found = decay.twins(digits, decay.Setting(rate=0.3, decay=0.1), steps=25, width=12)
    assert found.apart < 1e-10
    assert_close(found.loss[:, 0], found.loss[:, 1])
    assert found.norm[-1, 0] < 0.5 * found.norm[-1, 1]
    nothing = decay.twins(digits, decay.Setting(rate=0.3, decay=0.0), steps=3, width=12)
    assert_close(nothing.norm[:, 0], nothing.norm[:, 1])


# Random features


def test_masks_choose_what_they_say(digits):
    networks = digits.build("relu", True, 1.0, [0, 1], 2, 7)
    counts = {}
    for kind in features.KINDS:
        masks = [
            features.mask(kind, layer, index < 2, np.random.default_rng(0))
            for index, layer in enumerate(networks.layers)
        ]
        counts[kind] = sum(value[0].sum() for each in masks for value in each.values())
    assert counts["gamma and beta"] == counts["two weights a unit"] == 2 * 2 * 7
    assert counts["the readout"] == 7 * 10 + 10
    assert counts["everything"] == 64 * 7 + 7 * 7 + 7 * 10 + 10 + 2 * 2 * 7
    picked = features.mask("two weights a unit", networks.layers[0], True, np.random.default_rng(0))
    assert (picked["weight"].sum(1) == 2).all()
    assert picked["gamma"].sum() == 0
    with pytest.raises(ValueError, match="there is no kind 'gamma'"):
        features.mask("gamma", networks.layers[0], True, np.random.default_rng(0))


def test_training_random_features(digits):
    found = features.train(digits, "everything", (8, 20), seeds=2, steps=40, depth=2)
    assert found.accuracy.shape == found.off.shape == (2, 2)
    assert found.accuracy[1].mean() > 0.8
    frozen = features.train(digits, "gamma and beta", (8, 20), seeds=2, steps=40, depth=2)
    assert (frozen.accuracy.mean(1) < found.accuracy.mean(1)).all()


# Population statistics


def test_statistics_of_a_network_held_still_do_not_lag(digits):
    found = populations.follow(digits, 0.01, (0.5,), (200,), (1, 8), seeds=2)
    assert found.moving.shape == (2, 1, 2)
    assert found.precise.shape == (1, 2, 1, 2)
    assert found.precise[0, 1].mean() > found.moving[1].mean() + 0.1
    other = populations.follow(digits, 0.9, (0.5,), (200,), (1, 8), seeds=2)
    # what is kept on the way changes nothing about the training
    assert_close(found.precise, other.precise)


# Few classes


def test_batches_of_few_classes():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 40))
    order = few_classes.batches(labels, 3, 12, 0)
    seen = set()
    for _, batch in zip(range(40), order, strict=False):
        assert np.unique(labels[batch], return_counts=True)[1].tolist() == [4, 4, 4]
        assert len(set(batch)) == 12
        seen |= set(labels[batch])
    assert seen == set(range(10))
    for classes in (0, 5, 11):
        with pytest.raises(ValueError, match="evenly"):
            next(few_classes.batches(labels, classes, 12, 0))


def test_the_schedule_begins_as_bn():
    schedule = few_classes.Schedule(10, 30)
    assert [schedule.at(step) for step in (0, 10, 20, 30, 99)] == [
        (1, 0),
        (1, 0),
        (2, 2.5),
        (3, 5),
        (3, 5),
    ]


def test_training_with_few_classes(digits):
    options = {"seeds": 2, "steps": 80, "hidden": (30,), "rate": 0.3, "new_weight": 0.1}
    bn = few_classes.train(digits, (1, 10), None, **options)
    renorm = few_classes.train(digits, (1, 10), few_classes.Schedule(20, 50), **options)
    assert bn.population.shape == bn.batch.shape == (2, 2)
    assert bn.population[0].mean() < 0.5 < 0.8 < bn.population[1].mean()
    assert renorm.population[0].mean() > bn.population[0].mean()


def test_without_schedule_it_is_torchs_bn(digits):
    found = few_classes.train(digits, (10,), None, seeds=1, steps=5, hidden=(8,))
    x, labels = torch.from_numpy(digits.x), torch.from_numpy(digits.labels)
    net = many_torch.mlp(64, (8,), 10, [0], torch.nn.BatchNorm1d)
    ours = many_torch.mlp(64, (8,), 10, [0], BatchRenorm)
    for each in (net, ours):
        order = zip(range(5), few_classes.batches(digits.labels, 10, 30, 0), strict=False)
        for _ in many_torch.train(each, ((x[k], labels[k]) for _, k in order), [0.1]):
            pass
    assert_close(net(x[:50][None]).detach(), ours(x[:50][None]).detach(), 1e-4)
    assert found.batch.shape == (1, 1)


# Depth


def block_by_hand(block, x, r):
    """One network of a block without normalisation."""
    y = x
    for layer in (block.branch[2], block.branch[5]):
        y = torch.relu(y) @ layer.weight[r] + layer.bias[r]
    factor = 1 if block.factor is None else block.factor[r]
    return block.skip * x + factor * y


@pytest.mark.parametrize(
    "kind", [kind for kind in normfree.KINDS if not kind.norm], ids=lambda kind: kind.name
)
def test_blocks_by_hand(kind):
    net = normfree.build(kind, 5, 4, 3, 2, [0, 1])
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    for block in net[1:4]:
        for r in range(2):
            assert_close(block(x)[r].detach(), block_by_hand(block, x[r], r).detach())


@pytest.mark.parametrize("start", ["SkipInit", "Fixup"])
def test_a_good_start_is_the_identity(start):
    kind = normfree.Kind("", skip=True, start=start)
    net = normfree.build(kind, 5, 4, 9, 2, [0])
    x = torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(0))
    u = net[0](x)
    assert torch.equal(net[1:10](u), u)
    if start == "Fixup":
        assert (net(x) == 0).all()  # the classification layer starts at 0
        plain = normfree.build(normfree.Kind("", skip=True), 5, 4, 9, 2, [0])
        # over sqrt(9)
        assert_close(net[1].branch[2].weight.detach(), plain[1].branch[2].weight.detach() / 3)


def test_branches_behind_bn_are_one_over_the_block(digits):
    found = normfree.branches(
        normfree.Kind("", skip=True, norm=True), digits.x[:100], 12, seeds=2, units=50
    )
    share = (found.branch / found.skip).mean(1)
    slope = np.polyfit(np.log(np.arange(3, 13)), np.log(share[2:]), 1)[0]
    assert abs(slope + 1) < 0.2


def test_depth_is_no_trouble_for_a_good_start(digits):
    plain, good = (
        normfree.train(digits, kind, (1, 25), seeds=1, steps=50, rates=(0.1,), units=12)
        for kind in (normfree.KINDS[2], normfree.KINDS[4])
    )
    assert plain.shape == (2, 1)
    assert plain[1, 0] < 0.3 < good[1, 0]


def test_orthogonal_chains_do_not_explode():
    """The gradient of autograd is the same; Gaussian weights stretch it, orthogonal ones do not."""
    found = {kind: normfree.chain(kind, depth=60, seeds=2, width=16, batch=32) for kind in (0, 1)}
    assert found[0].shape == (60, 2)
    assert (found[0][0] == 1).all()
    assert np.maximum(found[1], 1 / found[1]).max() < 3 < found[0].max()
    x = torch.from_numpy(np.random.default_rng([Fixed(60), 16, 32]).normal(size=(2, 32, 16)))
    weights = [layer["weight"][0] for layer in many_numpy.build(
        16, 16, 60, None, "linear", True, lambda fan_in, _: fan_in**-0.5, range(2)
    ).layers]  # fmt: skip
    below, sizes = x[0], []
    for weight in weights:
        below = below @ torch.from_numpy(weight)
        below = ((below - below.mean(0)) / below.std(0, correction=0)).requires_grad_()
        below.retain_grad()
        sizes.append(below)
    below.backward(x[1])
    squares = [float((value.grad**2).sum()) for value in sizes[::-1]]
    assert_close(found[0][:, 0], np.array(squares) / squares[0], 1e-6)


# Centre and scale, in untrained networks


def test_what_layers_hand_on(digits):
    found = centre_scale.signal(digits, 12, seeds=2, width=16, examples=40)
    assert list(found.alike) == list(parts.KINDS)
    x = digits.x[:40].astype(float)
    networks = many_numpy.build(
        64, 16, 12, None, "relu", True, lambda fan_in, _: (2 / fan_in) ** 0.5, [0, 1]
    )
    _, tape = many_numpy.forward(networks, x)  # BN: both parts
    for layer in (0, 11):
        for seed in range(2):
            g = tape[layer].g[seed]
            unit = g / np.linalg.norm(g, axis=1, keepdims=True)
            cosines = (unit @ unit.T)[np.triu_indices(40, 1)]
            assert_close(found.alike["both"][layer, seed], cosines.mean())
            gram = g @ g.T
            assert_close(found.rank["both"][layer, seed], np.trace(gram) ** 2 / (gram**2).sum())
    assert found.alike["nothing"][-1].mean() > found.alike["both"][-1].mean() + 0.2


def test_kinds_by_name():
    learned, kept = centre_scale.chosen(True), centre_scale.chosen(False)
    assert list(learned) == list(kept) == list(parts.KINDS)
    assert learned["nothing"] == kept["nothing"] == PLAIN
    assert learned["both"].gamma
    assert not kept["both"].gamma
    accuracy = np.zeros((2, 1, len(KINDS), len(RATES)))
    accuracy[:, 0, KINDS.index(kept["both"]), :3] = [[0.9], [0.8]]
    some = centre_scale.Parts(np.array([250]), accuracy)
    assert some.usable(kept["both"], 250) == some.usable(kept["both"]) == 3
    assert some.of(kept["both"]).shape == (len(RATES), 2)


# Ghost batches


def test_ghosts_are_batch_norm_group_by_group():
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ghost, usual = ghosts.Ghost(5, 4).double(), torch.nn.BatchNorm1d(5).double()
    by_hand = torch.cat([torch.nn.BatchNorm1d(5).double()(part) for part in x.split(4)])
    assert_close(ghost(x).detach(), by_hand.detach())
    assert_close(ghosts.Ghost(5, 12).double()(x).detach(), usual(x).detach())
    assert_close(ghost.running_mean, usual.running_mean)
    assert_close(ghost.eval()(x).detach(), usual.eval()(x).detach())


def test_pairs_ruin_a_network(digits):
    found = ghosts.train(digits, (20, 2), seeds=2, steps=60, examples=40)
    assert found["seen"].shape == found["unseen"].shape == (3, 2)
    assert found["unseen"][1].mean() < found["unseen"][0].mean() - 0.05


# Sequences


def test_the_reader_is_causal_but_for_batch_norm(digits):
    for name in sequences.NORMS:
        found = list(sequences.sees(name, digits, row=2).values())
        assert found == [True, name == "batch norm", name == "batch norm"]


def test_a_reader_learns(digits):
    accuracy, readers = sequences.train(digits, "layer norm", (50,), seeds=1, steps=60)
    assert accuracy.shape == (1, 1)
    assert accuracy[0, 0] > 0.6
    with torch.no_grad():
        x = torch.from_numpy(digits.x_test.reshape(-1, 8, 8))
        named = readers[0].eval()(x)[:, -1].argmax(1).numpy()
    assert accuracy[0, 0] == (named == digits.test_labels).mean()
    first, second = (sequences.build(name, 0) for name in ("layer norm", "batch norm"))
    assert torch.equal(first.embed.weight, second.embed.weight)


# Records


def test_recorded_networks_as_arrays():
    found = linear.recorded("linear-with-bn")
    assert found.loss.shape == found.smoothness.shape == (3, len(found.steps))
    assert found.cosine.shape == found.change.shape == (3, len(found.steps), 24)
    assert found.losses_along.shape == (3, len(found.steps), len(LENGTHS))
    accuracy = small_batches.recorded("batch")
    assert accuracy.shape == (5, 3)
    record = records.load("after", "conv-batch-4", 2)
    assert accuracy[1, 2] == record.curve("test_accuracy")[1][-1]
    assert small_batches.recorded("batch", "test_accuracy_batch").shape == (5, 3)
