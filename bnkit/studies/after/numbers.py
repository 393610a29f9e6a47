"""Chapter 10: the numbers that its sentences quote, by name, and its closing table.

Each function takes what one section has computed and returns a dictionary of plain numbers. The
chapter asserts what it says about them, quotes them, and hands them on to other pages under the
same names.
"""

from collections.abc import Mapping, Sequence

import numpy as np

Numbers = dict[str, float]
SHORT = {"with BN": "bn", "without BN": "plain"}


def noise(strengths: Sequence[float], **panels: Mapping[str, np.ndarray]) -> Numbers:
    """Mean accuracy by kind, network and strength of the noise: "relu_bn_noise_4". Shapes:
    (strengths, seeds).
    """
    return {
        f"{kind}_{SHORT[name]}_noise_{strength:g}": float(mean)
        for kind, networks in panels.items()
        for name, accuracy in networks.items()
        for strength, mean in zip(strengths, accuracy.mean(1), strict=True)
    }


def interference(runs: Mapping, rate: float) -> Numbers:
    """What the recorded linear networks show; `runs` holds ``linear.Recorded`` values by name.

    "cosine_early" is over steps 1 to 16, "cosine_late" and "edge" after step 500; "edge" is the
    effective smoothness in units of one over the learning rate, "cliff" the highest loss on a walk
    over the highest in training.
    """
    found = {}
    for name, run in runs.items():
        early, late = (run.steps > 0) & (run.steps <= 16), run.steps > 500
        found |= {
            f"cosine_early_{SHORT[name]}": run.cosine[:, early].mean(),
            f"cosine_late_{SHORT[name]}": run.cosine[:, late].mean(),
            f"linear_loss_{SHORT[name]}": run.loss[:, -1].mean(),
            f"edge_{SHORT[name]}": np.median(run.smoothness[:, late]) * rate,
            f"cliff_{SHORT[name]}": run.losses_along.max() / run.loss.max(),
        }
    return _plain(found)


def landscape(rates: Sequence[float], followed: Mapping, early: int = 20) -> Numbers:
    """How much rougher it is without BN: ratios of ``smoothness.Path``, geometric means,
    "rougher_range_0.3_early".

    Up to the step `early`, and "late" after it.
    """
    plain, normed = followed["without BN"], followed["with BN"]
    parts = {"early": plain.steps <= early, "late": plain.steps > early}
    return {
        f"rougher_{what}_{rate:g}_{when}": _geometric(
            getattr(plain, what)[part, k] / getattr(normed, what)[part, k]
        )
        for k, rate in enumerate(rates)
        for when, part in parts.items()
        for what in ("range", "change", "smoothness")
    }


def rates(
    places: Sequence[float], reached: Mapping[str, np.ndarray], small: int, passing: float = 0.8
) -> Numbers:
    """Gain of BN at the best for it of the `small` smallest rates, in points; largest rate that
    passes; best accuracy.

    Shapes: each of `reached` (rates, seeds).
    """
    mean = {SHORT[name]: accuracy.mean(1) for name, accuracy in reached.items()}
    found = {"gain_at_small_rates": 100 * (mean["bn"] - mean["plain"])[:small].max()}
    for name, accuracy in mean.items():
        usable = [rate for rate, each in zip(places, accuracy, strict=True) if each > passing]
        found |= {f"usable_rate_{name}": max(usable, default=0.0), f"best_{name}": accuracy.max()}
    return _plain(found)


def depth(fit: Mapping[str, np.ndarray]) -> Numbers:
    """Mean accuracy at the largest depth, by kind: "deep_residual_bn". Shapes: (depths, seeds)."""
    return {
        f"deep_{name.replace(', ', '_').lower()}": float(each[-1].mean())
        for name, each in fit.items()
    }


def tuned(course, last: int) -> Numbers:
    """Networks without decay whose weights have rates of their own: loss and turn per step over the
    `last` steps.

    `course` is a ``decay.Course``, by ascending rate. "turn_ratio" is the largest turn over the
    smallest; "stretched" how much longer, squared, the weights of the highest rate have become.
    """
    loss, turn = course.loss[-last:].mean((0, 2)), course.angle(last).mean(1)
    stretched = (course.norm[-1, -1] / course.norm[0, -1]).mean()
    values = (loss.min(), loss.max(), turn.max() / turn.min(), stretched)
    return _plain(
        dict(
            zip(
                ("tuned_loss_low", "tuned_loss_high", "turn_ratio", "stretched"),
                values,
                strict=True,
            )
        )
    )


def balance(
    course, measured: np.ndarray, predicted_angle: Sequence[float], predicted_norm: Sequence[float]
) -> Numbers:
    """Measured over predicted angle and squared length of the weights, lowest and highest of the
    settings with decay.

    `course` is a ``decay.Course``. Shapes: measured (settings, seeds), predicted (settings with
    decay,).
    """
    n, last = len(predicted_angle), len(course.norm) // 2
    angle = measured[:n].mean(1) / predicted_angle
    length = course.norm[-last:, :n].mean((0, 2)) / predicted_norm
    values = (angle.min(), angle.max(), length.min(), length.max())
    return _plain(
        dict(zip(("angle_low", "angle_high", "length_low", "length_high"), values, strict=True))
    )


def batches(by_norm: Mapping[str, np.ndarray], by_batch: np.ndarray) -> Numbers:
    """Change of accuracy from the largest batch to the smallest, in points, "small_batch_group";
    and at the smallest.

    Shapes: (sizes, seeds), sizes ascending. "company" is what batch statistics in the test add to
    batch norm there.
    """
    found = {
        f"small_batch_{norm}": 100 * (each[0] - each[-1]).mean() for norm, each in by_norm.items()
    }
    lead = by_norm["group"][0].mean() - by_norm["batch"][0].mean()
    return _plain(
        found
        | {"group_lead": 100 * lead, "company": 100 * (by_batch[0] - by_norm["batch"][0]).mean()}
    )


def lag(curves: Mapping[str, np.ndarray], best: str) -> dict[str, tuple[float, float]]:
    """Accuracy lost against the curve `best`, in points: the most at any step and rate, and at the
    end.

    Shapes: (looks, rates, seeds).
    """
    behind = {name: 100 * (curves[best] - each).mean(2) for name, each in curves.items()}
    return {name: (float(each.max()), float(each[-1].mean())) for name, each in behind.items()}


def company(classes: Sequence[int], tested: Mapping) -> Numbers:
    """Mean accuracy by the number of classes in a batch: "bn_2", "renorm_2", and "bn_like_2" by
    batch statistics.
    """
    bn, renorm = tested["BN"], tested["Batch Renormalization"]
    columns = {"bn": bn.population, "renorm": renorm.population, "bn_like": bn.batch}
    return {
        f"{name}_{count}": float(mean)
        for name, accuracy in columns.items()
        for count, mean in zip(classes, accuracy.mean(1), strict=True)
    }


def features(learned: Mapping) -> Numbers:
    """Accuracy of gamma and beta alone in the widest network, of everything, lead over weights,
    share switched off.

    Leads are in points, "narrow_lead" that in the narrowest network.
    """
    pair, weights, everything = learned.values()
    lead = 100 * (pair.accuracy - weights.accuracy).mean(1)
    return _plain(
        {
            "pair": pair.accuracy[-1].mean(),
            "everything": everything.accuracy[-1].mean(),
            "pair_lead": lead[-1],
            "narrow_lead": lead[0],
            "switched_off": pair.off.mean(),
        }
    )


def verdicts(n: Numbers) -> list[tuple[str, str, str, str]]:
    """The closing table: what was said, by whom, the verdict in this chapter's setting, and what
    was measured.
    """
    return [
        (
            "Noisy BN trains as well; the same noise stops the standard network",
            "Santurkar 2018",
            "the first half holds; the second with more noise",
            f"at four times the noise {n['fast_bn_noise_4']:.0%} with BN, {n['fast_plain_noise_4']:.0%} without; at "
            f"theirs {n['fast_bn_noise_1']:.0%} and {n['fast_plain_noise_1']:.0%}",
        ),
        (
            "BN does not reduce the shift of gradients",
            "Santurkar 2018",
            "holds; the standard network is calmer at first only",
            f"cosine early {n['cosine_early_bn']:.2f} with BN, {n['cosine_early_plain']:.2f} without; late "
            f"{n['cosine_late_bn']:.2f} and {n['cosine_late_plain']:.2f}",
        ),
        (
            "BN makes loss and gradient smoother along the gradient",
            "Santurkar 2018",
            "at a large learning rate; at a small one not at first",
            f"loss range in the first steps, without BN: × {n['rougher_range_0.3_early']:.1f} at rate 0.3, "
            f"× {n['rougher_range_0.03_early']:.1f} at 0.03",
        ),
        (
            "Theorem 4.1 bounds the gradient",
            "Santurkar 2018",
            "an equality, with 1/m for the printed 1/√m",
            f"equal to 1e-10; its scale is {n['scale_untrained']:.2f} at the start, above 1",
        ),
        (
            "At equal learning rates BN gains nothing; it allows larger ones",
            "Bjorck 2018",
            "holds, for a good initialisation",
            f"{n['gain_at_small_rates']:+.1f} points at best; usable up to {n['usable_rate_bn']:g} instead of "
            f"{n['usable_rate_plain']:g}; at the best rate of each {n['best_bn']:.1%} and {n['best_plain']:.1%}",
        ),
        (
            "BN makes gradients explode; without skip connections deep networks do not train",
            "Yang 2019",
            "holds",
            f"× {n['explosion']:.2f} per layer; deepest chain {n['deep_chain_bn']:.0%}, residual network "
            f"{n['deep_residual_bn']:.0%}",
        ),
        (
            "A start near the identity replaces BN",
            "Zhang 2019, De 2020",
            "holds",
            f"SkipInit {n['deep_residual_skipinit']:.0%}, Fixup {n['deep_residual_fixup']:.0%}, neither "
            f"{n['deep_residual']:.0%}",
        ),
        (
            "Behind BN the learning rate tunes itself",
            "Arora 2019",
            "holds",
            f"rates 10,000-fold apart: loss {n['tuned_loss_low']:.2f} to {n['tuned_loss_high']:.2f}, turns "
            f"{n['turn_ratio']:.0f}-fold apart",
        ),
        (
            "With weight decay each step turns the weights by √(2ηλ)",
            "van Laarhoven 2017, Wan 2020",
            "holds",
            f"measured over predicted {n['angle_low']:.2f} to {n['angle_high']:.2f}",
        ),
        (
            "Weight decay is a schedule of the learning rate",
            "Hoffer 2018",
            "exact, for plain gradient descent",
            f"outputs of the twins agree to {n['twins_apart']:.0e}",
        ),
        (
            "Small batches hurt batch norm, not group norm",
            "Wu and He 2018",
            "holds",
            f"from 32 images to 2: {n['small_batch_batch']:+.1f} and {n['small_batch_group']:+.1f} points",
        ),
        (
            "Moving averages lag, statistics taken anew do not",
            "Wu and Johnson 2021",
            "holds",
            f"weight 0.01 hides up to {n['lag_slow']:.0f} points, 0.1 up to {n['lag_quick']:.0f}",
        ),
        (
            "Few classes in a batch ruin BN; Batch Renormalization mends it",
            "Ioffe 2017",
            "holds; but batch statistics in the test do not help",
            f"two classes: {n['bn_2']:.0%} with BN, {n['renorm_2']:.0%} with Batch Renormalization",
        ),
        (
            "γ and β alone can learn, better than other numbers, and switch features off",
            "Frankle 2021",
            "the first holds, the second in wider networks, the third not here",
            f"{n['pair']:.0%}; {n['pair_lead']:+.1f} points; {n['switched_off']:.1%} switched off",
        ),
    ]


def _geometric(values: np.ndarray) -> float:
    return float(np.exp(np.log(values).mean()))


def _plain(numbers: Mapping[str, object]) -> Numbers:
    return {name: float(value) for name, value in numbers.items()}
