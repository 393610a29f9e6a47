"""The examination of steps that are no good: each trouble is named, and the rest is examined."""

import threading

import numpy as np
import pytest

from bnkit import reference
from bnkit.conformance import Step, examine, faces
from bnkit.conformance.variants import Variant


def broken(on, trouble, **settings):
    """A sound variant with trouble in batches of which `on(x)` is true."""

    class Broken(Variant):
        def step(self, x, gamma, beta, dy, state):
            result = super().step(x, gamma, beta, dy, state)
            return trouble(result) if on(x) else result

    return examine(Broken().step, Broken().infer, **{"limit": 60} | settings)


def on_maps(x):
    return x.shape == (4, 3, 5, 6)


def crash(result):
    raise ZeroDivisionError("by hand")


def leave(result):
    raise SystemExit("gone")


def interrupt(result):
    raise KeyboardInterrupt


NEVER = threading.Event()
TROUBLES = {
    "raised ZeroDivisionError: by hand": crash,
    "returned y of shape (3,), where (4, 3, 5, 6) was due": lambda s: s._replace(y=s.dbeta),
    "returned mean of shape (1,), where (3,) was due": lambda s: s._replace(mean=s.mean[:1]),
    "returned y of dtype int64, which is not floating": lambda s: s._replace(y=s.y.astype(int)),
    "returned dx of dtype object, which is not floating": lambda s: s._replace(
        dx=s.dx.astype(object)
    ),
    "returned NoneType, where a Step was expected": lambda s: None,
    "raised SystemExit: gone": leave,
    "raised KeyboardInterrupt": interrupt,
}


@pytest.mark.parametrize("said", TROUBLES)
def test_trouble_on_one_probe_is_named_and_the_rest_is_examined(said):
    card = broken(on_maps, TROUBLES[said])
    assert card.failed == ["maps"]
    assert {f.note for f in card.of("maps")} == {said}
    assert all(f.holds for f in card.of("forward") + card.of("float16_sum"))
    assert said in str(card)


def test_an_argument_of_another_shape_is_named():
    class Reshaping(Variant):
        def step(self, x, gamma, beta, dy, state):
            result = super().step(x, gamma, beta, dy, state)
            if on_maps(x):
                x.shape = (4, 90)
            return result

    card = examine(Reshaping().step, Reshaping().infer, limit=60)
    assert {f.note for f in card.of("maps")} == {"changed the shape of its argument x"}
    assert card.of("forward")[0].holds


def test_a_right_y_in_the_arguments_memory_is_right():
    class InPlace(Variant):
        def step(self, x, gamma, beta, dy, state):
            result = super().step(x, gamma, beta, dy, state)
            x[...], dy[...] = result.y, result.dx
            return result._replace(y=x, dx=dy)

    card = examine(InPlace().step, InPlace().infer)
    assert card.failed == ["arguments_kept"]
    assert card.of("arguments_kept")[0].note == "were changed: dy, x"


def test_a_probe_that_hangs_is_left_behind():
    card = broken(on_maps, lambda s: NEVER.wait() and s, dtypes=["float32"], limit=2)
    assert [f.note for f in card.of("maps")] == ["hung: no answer within 2 s"]
    assert card.of("forward")[0].holds
    assert card.of("inference_learns_nothing")[0].holds


def test_a_step_that_never_works_is_said_once():
    card = broken(lambda x: True, crash)
    assert card.failed == ["a_first_step"]
    assert card.conventions == {}
    assert "raised ZeroDivisionError: by hand" in str(card)


def test_a_step_that_hangs_at_once_is_not_asked_again():
    card = broken(lambda x: True, lambda s: NEVER.wait() and s, limit=0.2)
    assert [f.note for f in card.findings] == ["hung: no answer within 0.2 s"]


def test_y_alone_is_enough():
    def step(x, gamma, beta, dy, state):
        if x.ndim > 2:
            raise ValueError("vectors only")
        mean, var = x.mean(0), x.var(0)
        return Step(gamma * (x - mean) / np.sqrt(var + 1e-5) + beta)

    card = examine(step)
    assert card.conventions["epsilon"] == 1e-5
    assert card.conventions["new_weight"] == "not reported"
    assert card.conventions["inference_uses"] == "not given"
    assert {f.note for f in card.of("dx")} == {"not reported"}
    # maps it refuses; of its sums and squares in float32 and float16 this is the price
    assert card.conventions["axis"] == "1, no maps: refused (ValueError)"
    assert {f.note for f in card.of("maps")} == {"not asked: it takes no maps"}
    assert {"large_mean", "float16_range"} <= set(card.failed)
    assert "forward" not in card.failed


def test_maps_alone_are_enough():
    """Whoever takes (N, C, H, W) only gets (m, d, 1, 1) for (m, d)."""

    class Maps(Variant):
        def step(self, x, *rest):
            if x.ndim != 4:
                raise ValueError("maps only")
            return super().step(x, *rest)

    card = examine(Maps().step, Maps().infer)
    assert card.failed == []


def test_the_reference_passes_and_says_what_it_lacks():
    card = examine(*faces.of_reference(reference), momentum=0.1)
    assert card.failed == []
    assert {f.note for f in card.of("inference_dx")} == {"not reported"}
    assert card.of("nan_stays")[0].note == "refused (ValueError)"
    assert max(f.spacings for f in card.findings if f.spacings is not None) < 16


def test_an_examination_is_repeatable():
    one, other = (examine(Variant().step, Variant().infer) for _ in range(2))
    assert one.json() == other.json()


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"step": 3}, TypeError, "step is int; pass a function"),
        ({"infer": "y"}, TypeError, "infer is str; pass a function"),
        ({"axis": 2}, ValueError, "axis is 2; 1, -1, or None"),
        ({"dtypes": ["int8"]}, ValueError, "int8"),
        ({"dtypes": []}, ValueError, "some of float64"),
    ],
)
def test_what_is_no_step_is_refused(settings, error, said):
    with pytest.raises(error, match=said):
        examine(**{"step": Variant().step} | settings)
