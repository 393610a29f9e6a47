"""Chapter 10: the numbers that its sentences quote, by name.

Each function takes what one section has computed and returns a dictionary of plain numbers. The
chapter asserts and quotes them, and hands them on. Settings that two chapters share stand here too.
"""

from collections.abc import Mapping, Sequence

import numpy as np

Array = np.ndarray
Numbers = dict[str, float]
SHORT = {"with BN": "bn", "without BN": "plain"}
# Learning rates of the sections on rates, on the landscape and on weights behind BN.
RATES, SPEEDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0), (0.03, 0.3)
WILD = (0.1, 1.0, 10.0, 100.0, 1_000.0)


def interference(runs: Mapping, rate: float) -> Numbers:
    """What the recorded linear networks show; `runs` holds ``linear.Recorded`` values by name.

    "cosine_early" is over steps 1 to 16, "cosine_late" and "edge" after step 500; "edge" is the
    effective smoothness in units of one over the learning rate, "cliff" the highest loss on a walk
    over the highest in training.
    """
    numbers = {}
    for name, run in runs.items():
        early, late = (run.steps > 0) & (run.steps <= 16), run.steps > 500
        facts = {
            "cosine_early": run.cosine[:, early].mean(),
            "cosine_late": run.cosine[:, late].mean(),
            "linear_loss": run.loss[:, -1].mean(),
            "edge": np.median(run.smoothness[:, late]) * rate,
            "cliff": run.losses_along.max() / run.loss.max(),
        }
        numbers |= {f"{fact}_{SHORT[name]}": value for fact, value in facts.items()}
    return _plain(numbers)


def landscape(rates: Sequence[float], followed: Mapping) -> Numbers:
    """How much rougher it is without BN: ratios of ``smoothness.Path``, "rougher_range_0.3_early".

    Geometric means up to step 20, and "late" after it.
    """
    plain, normed = followed["without BN"], followed["with BN"]
    parts = {"early": plain.steps <= 20, "late": plain.steps > 20}
    numbers = {}
    for k, rate in enumerate(rates):
        for when, part in parts.items():
            for what in ("range", "change", "smoothness"):
                ratio = getattr(plain, what)[part, k] / getattr(normed, what)[part, k]
                numbers[f"rougher_{what}_{rate:g}_{when}"] = np.exp(np.log(ratio).mean())
    return _plain(numbers)


def rates(
    places: Sequence[float], reached: Mapping[str, Array], small: int, passing: float = 0.8
) -> Numbers:
    """BN's best gain at the `small` smallest rates, in points; largest usable rate; best accuracy.

    Shapes: each of `reached` (rates, seeds).
    """
    mean = {SHORT[name]: accuracy.mean(1) for name, accuracy in reached.items()}
    numbers = {"gain_at_small_rates": 100 * (mean["bn"] - mean["plain"])[:small].max()}
    for name, accuracy in mean.items():
        usable = max(np.asarray(places)[accuracy > passing], default=0.0)
        numbers |= {f"usable_rate_{name}": usable, f"best_{name}": accuracy.max()}
    return _plain(numbers)


def depth(fit: Mapping[str, Array]) -> Numbers:
    """Mean accuracy at the largest depth, by kind: "deep_residual_bn". Shapes: (depths, seeds)."""
    short = {name: name.replace(", ", "_").lower() for name in fit}
    return _plain({f"deep_{short[name]}": shares[-1].mean() for name, shares in fit.items()})


def tuned(course, last: int) -> Numbers:
    """Weights without decay at rates of their own: loss, turn per step in the `last` steps.

    `course` is a ``decay.Course``, by ascending rate. "turn_ratio" is the largest turn over the
    smallest; "stretched" how much longer, squared, the weights of the highest rate have become.
    """
    loss, turn = course.loss[-last:].mean((0, 2)), course.angle(last).mean(1)
    stretched = (course.norm[-1, -1] / course.norm[0, -1]).mean()
    losses = {"tuned_loss_low": loss.min(), "tuned_loss_high": loss.max()}
    return _plain(losses | {"turn_ratio": turn.max() / turn.min(), "stretched": stretched})


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
    angles = {"angle_low": angle.min(), "angle_high": angle.max()}
    return _plain(angles | {"length_low": length.min(), "length_high": length.max()})


def batches(by_norm: Mapping[str, Array], by_batch: Array) -> Numbers:
    """Accuracy at the largest batch minus at the smallest, in points, "small_batch_group".

    Shapes: (sizes, seeds), sizes ascending. "company" is what batch statistics in the test add.
    """
    pairs = by_norm.items()
    numbers = {f"small_batch_{norm}": 100 * (of[0] - of[-1]).mean() for norm, of in pairs}
    batch, group = by_norm["batch"][0], by_norm["group"][0]
    company = 100 * (by_batch[0] - batch).mean()
    return _plain(numbers | {"group_lead": 100 * (group.mean() - batch.mean()), "company": company})


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
    """Accuracy of what is trained alone and of everything, widest network; lead; share switched off.

    Leads are in points, "narrow_lead" that in the narrowest network.
    """
    pair, weights, readout, everything = learned.values()
    lead = 100 * (pair.accuracy - weights.accuracy).mean(1)
    trained = {"pair": pair, "readout": readout, "everything": everything}
    widest = {name: of.accuracy[-1].mean() for name, of in trained.items()}
    leads = {"pair_lead": lead[-1], "narrow_lead": lead[0]}
    return _plain(widest | leads | {"switched_off": pair.off.mean()})


def _plain(numbers: Mapping[str, object]) -> Numbers:
    return {name: float(value) for name, value in numbers.items()}
