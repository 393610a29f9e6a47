"""Chapter 10: the numbers that its sentences quote, by name.

Each function takes what one section has computed and returns a dictionary of plain numbers. The
chapter asserts what it says about them, quotes them, and hands them on to other pages under the
same names.
"""

from collections.abc import Mapping, Sequence

import numpy as np

Array = np.ndarray

Numbers = dict[str, float]
SHORT = {"with BN": "bn", "without BN": "plain"}


def noise(strengths: Sequence[float], **panels: Mapping[str, Array]) -> Numbers:
    """Mean accuracy by kind, network and noise, "fast_bn_noise_4". Shapes: (strengths, seeds)."""
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
    """How much rougher it is without BN: ratios of ``smoothness.Path``, "rougher_range_0.3_early".

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
    places: Sequence[float], reached: Mapping[str, Array], small: int, passing: float = 0.8
) -> Numbers:
    """BN's best gain at the `small` smallest rates, in points; largest usable rate; best accuracy.

    Shapes: each of `reached` (rates, seeds).
    """
    mean = {SHORT[name]: accuracy.mean(1) for name, accuracy in reached.items()}
    found = {"gain_at_small_rates": 100 * (mean["bn"] - mean["plain"])[:small].max()}
    for name, accuracy in mean.items():
        usable = [rate for rate, each in zip(places, accuracy, strict=True) if each > passing]
        found |= {f"usable_rate_{name}": max(usable, default=0.0), f"best_{name}": accuracy.max()}
    return _plain(found)


def depth(fit: Mapping[str, Array]) -> Numbers:
    """Mean accuracy at the largest depth, by kind: "deep_residual_bn". Shapes: (depths, seeds)."""
    return {
        f"deep_{name.replace(', ', '_').lower()}": float(each[-1].mean())
        for name, each in fit.items()
    }


def tuned(course, last: int) -> Numbers:
    """Weights without decay at rates of their own: loss, turn per step in the `last` steps.

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
    course, measured: Array, predicted_angle: Sequence[float], predicted_norm: Sequence[float]
) -> Numbers:
    """Measured over predicted angle and squared length, lowest and highest, where there is decay.

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


def batches(by_norm: Mapping[str, Array], by_batch: Array) -> Numbers:
    """Accuracy at the largest batch minus at the smallest, in points, "small_batch_group".

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


def lag(curves: Mapping[str, Array], best: str) -> dict[str, tuple[float, float]]:
    """Accuracy lost against the curve `best`, in points: most at any step and rate, and at the end.

    Shapes: (looks, rates, seeds).
    """
    behind = {name: 100 * (curves[best] - each).mean(2) for name, each in curves.items()}
    return {name: (float(each.max()), float(each[-1].mean())) for name, each in behind.items()}


def company(classes: Sequence[int], tested: Mapping) -> Numbers:
    """Mean accuracy by classes in a batch: "bn_2", "renorm_2", by batch statistics "bn_like_2"."""
    bn, renorm = tested["BN"], tested["Batch Renormalization"]
    columns = {"bn": bn.population, "renorm": renorm.population, "bn_like": bn.batch}
    return {
        f"{name}_{count}": float(mean)
        for name, accuracy in columns.items()
        for count, mean in zip(classes, accuracy.mean(1), strict=True)
    }


def features(learned: Mapping) -> Numbers:
    """Accuracy of gamma and beta alone and of everything, widest network; lead; share switched off.

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


def _geometric(values: Array) -> float:
    return float(np.exp(np.log(values).mean()))


def _plain(numbers: Mapping[str, object]) -> Numbers:
    return {name: float(value) for name, value in numbers.items()}
