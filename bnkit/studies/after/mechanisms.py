"""The closing page: what batch normalization might do, the evidence on either side, and what this
book measured.
"""

from collections.abc import Mapping

import numpy as np

Both = tuple[
    np.ndarray, np.ndarray
]  # accuracy with batch normalization and with what stands in its place, (seeds,)

CHAPTERS = {
    1: "01-vanishing-gradients",
    2: "02-covariate-shift",
    4: "04-the-transform",
    6: "06-inference",
    8: "08-mnist",
    9: "09-inception",
    10: "10-after-the-paper",
}


def leads(groups: Mapping[str, Mapping[str, Both]]) -> dict[str, list[float]]:
    """How many points batch normalization leads by, in the mean over seeds: a list for each group
    of settings.
    """
    return {
        title: [100 * float(ours.mean() - others.mean()) for ours, others in settings.values()]
        for title, settings in groups.items()
    }


def link(*chapters: int) -> str:
    """Links to chapters, by number."""
    return ", ".join(f"[{number}]({CHAPTERS[number]}.ipynb)" for number in chapters)


def rows(n: Mapping[str, float]) -> list[tuple[str, str, str, str, str]]:
    """The table: what it might do, evidence for and against, what we measured, in which chapters."""
    return [
        (
            "**keeps distributions still** (the paper's title)",
            "what a layer receives moves less",
            "made to move by noise, it learns as well; the gradients change more, not less",
            f"movement {n['moved_plain']:.2f} without BN, {n['moved_bn']:.2f} with, {n['moved_noisy']:.2f} with noise "
            f"behind it; accuracy {n['reached_plain']:.1%}, {n['reached_bn']:.1%}, {n['reached_noisy']:.1%}; change of "
            f"gradients {n['misled_plain']:.2f} without BN, {n['misled_bn']:.2f} with",
            link(2, 10),
        ),
        (
            "**makes up for badly scaled weights** (Section 3.3)",
            "a factor on the weights drops out; bad starts are overcome",
            "a good start needs no help in small networks; Inception has one, and gains all the same",
            f"MNIST, initial weights ten times smaller: {n['lost_bn']:.1%} with BN, {n['lost_plain']:.1%} without; "
            f"Inception with He's weights {n['inception_gap']:+.1f} points",
            link(4, 8, 9),
        ),
        (
            "**bears large learning rates** (Section 3.3; Bjorck 2018)",
            "more rates train, and the best of them is better",
            "at equal small rates nothing is gained; on MNIST little, if each network has its best rate",
            f"usable up to {n['usable_rate_bn']:g} instead of {n['usable_rate_plain']:g}; at small rates "
            f"{n['gain_at_small_rates']:+.1f} points; MNIST {n['best_gap']:+.2f} points; five times the rate in the "
            f"recipe of BN-x5 {n['rate_in_recipe_bn']:+.1f} points with BN, {n['rate_in_recipe_plain']:+.1f} without",
            link(8, 9, 10),
        ),
        (
            "**smooths the landscape** (Santurkar 2018)",
            "at a large rate the loss changes far less along a step",
            "at a small rate, at first, it changes more; so do the gradients",
            f"range of the loss without BN over that with it, in the first steps: × {n['rougher_range_0.3_early']:.1f} "
            f"at a rate of 0.3, × {n['rougher_range_0.03_early']:.1f} at 0.03",
            link(2, 10),
        ),
        (
            "**tunes the learning rate** (Arora 2019, Hoffer 2018)",
            "rates of all sizes end alike; weight decay is a learning rate, exactly",
            "true of the weights in front of BN only; γ, β and the last layer need a sensible rate",
            f"weights' rates 10,000-fold apart: loss {n['tuned_loss_low']:.2f} to {n['tuned_loss_high']:.2f}",
            link(4, 10),
        ),
        (
            "**keeps gradients alive** (Section 3.3)",
            "the gradients of sigmoid networks no longer vanish",
            "those of ReLU networks do not vanish anyway; with BN, untrained, they explode, and chains of fifty layers "
            "do not train (Yang 2019)",
            f"squared gradient per layer: sigmoid × {n['growth_sigmoid_plain']:.2f} without BN, "
            f"× {n['growth_sigmoid_bn']:.2f} with; ReLU × {n['growth_relu_plain']:.2f} and "
            f"× {n['growth_relu_bn']:.2f}. Chain of fifty layers: {n['deep_chain_bn']:.0%}",
            link(1, 9, 10),
        ),
        (
            "**keeps residual branches small** (De 2020)",
            "residual networks of fifty layers train with it, and not without",
            "a single learned number per block does the same",
            f"{n['deep_residual_bn']:.0%} with BN, {n['deep_residual']:.0%} without, "
            f"{n['deep_residual_skipinit']:.0%} with SkipInit",
            link(10),
        ),
        (
            "**regularises** (Section 3.4)",
            "the neighbours in the batch jitter each example",
            "in our small network next to nothing of it shows",
            f"a hundred digits learned by heart; of others right: {n['unseen_bn']:.1%} with BN, "
            f"{n['unseen_neither']:.1%} without, {n['unseen_dropout']:.1%} with Dropout, {n['unseen_decay']:.1%} with "
            "weight decay",
            link(1, 4),
        ),
        (
            "**gives the network γ and β** (Section 3; Frankle 2021)",
            "alone, on random features, they learn most of the task",
            "with all weights trained they add little",
            f"{n['pair']:.0%} with γ and β alone, {n['everything']:.0%} with everything",
            link(4, 10),
        ),
        (
            "… and **what it costs**: no example is alone",
            "at usual batch sizes it does no harm",
            "small batches, and batches of few classes; group norm and Batch Renormalization need no company",
            f"from 32 images in a batch to 2: {n['small_batch_batch']:+.1f} points, group norm "
            f"{n['small_batch_group']:+.1f}; one class in a batch: {n['bn_1']:.0%}, Batch Renormalization "
            f"{n['renorm_1']:.0%}",
            link(6, 10),
        ),
    ]
