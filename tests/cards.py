"""Cards of variants, and in what they are unlike that of a sound one."""

from functools import cache

from bnkit.conformance import examine
from bnkit.conformance.variants import Variant


def card(variant, **settings):
    momentum = settings.pop("momentum", 0.1)
    return examine(
        variant.step, variant.infer, load=variant.load, bfloat16=variant.step, momentum=momentum,
        **settings,
    )  # fmt: skip


@cache
def sound():
    return card(Variant())


def differences(found, usual):
    """Conventions with another answer, and probes that do not hold."""
    other = {k: v for k, v in found.conventions.items() if v != usual.conventions[k]}
    other = {k: v for k, v in other.items() if not str(v).startswith("not asked")}
    return {**other, **dict.fromkeys(set(found.failed) - set(usual.failed), False)}
