"""torch's own table of cases for BatchNorm, run on our layer; a program, started by
test_batch_norm.py.

The table, ``torch.testing._internal.common_modules.module_db``, is part of torch; the generic tests
that torch runs over it (its test/test_modules.py) are not, so what they ask is asked here in our
words. A process of its own, for importing the table changes global settings.
"""

import copy
import os
import pickle
import sys
import types
import unittest

# The table's module wants it for a base class that is not used here.
sys.modules.setdefault("expecttest", types.SimpleNamespace(TestCase=unittest.TestCase))

import torch  # noqa: E402
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402
from torch.testing import assert_close as torchs_assert_close  # noqa: E402
from torch.testing._internal.common_modules import module_db  # noqa: E402

from bnkit.layers import BatchNorm, aten  # noqa: E402

SEED = int(sys.argv[1]) if sys.argv[1:] else int(os.environ.get("BNKIT_TEST_SEED", "0"))
TABLE = [info for info in module_db if info.module_cls.__name__.startswith("BatchNorm")]


def cases(dtype=torch.float64, requires_grad=True):
    for info in TABLE:
        for training in (True, False):
            table = info.module_inputs_func(info, "cpu", dtype, requires_grad, training)
            for entry in table:
                made = entry.constructor_input
                options = {**made.kwargs, "dtype": dtype}
                ours = BatchNorm(*made.args, **options).train(training)
                theirs = info.module_cls(*made.args, **options).train(training)
                ours.load_state_dict(theirs.state_dict())
                yield ours, theirs, *entry.forward_input.args


def assert_close(actual, expected):
    """Within a thousand spacings: gradients are differences of sums, and lose some digits."""
    near = 1000 * torch.finfo(expected.dtype).eps if expected.is_floating_point() else 0
    torchs_assert_close(actual, expected, rtol=near, atol=near)


def clone(x):
    return x.detach().clone(memory_format=torch.preserve_format).requires_grad_()


def functional(layer):
    """The layer as a function of its input and parameters, with statistics that start anew at each
    call."""
    names = [name for name, _ in layer.named_parameters()]

    def function(x, *parameters):
        return torch.func.functional_call(
            copy.deepcopy(layer), dict(zip(names, parameters, strict=True)), (x,)
        )

    return function, [p.detach().clone().requires_grad_() for p in layer.parameters()]


def forward_backward_and_state(ours, theirs, x):
    a, b = clone(x), clone(x)
    y, expected = ours(a), theirs(b)
    assert_close(y, expected)
    assert y.stride() == expected.stride()
    dy = torch.randn_like(expected)
    y.backward(dy)
    expected.backward(dy)
    assert_close(a.grad, b.grad)
    for mine, peer in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(mine.grad, peer.grad)
    for (name, mine), (peer_name, peer) in zip(
        ours.state_dict().items(), theirs.state_dict().items(), strict=True
    ):
        assert name == peer_name
        assert_close(mine, peer)


def non_contiguous(ours, theirs, x):
    strange = torch.stack([x.detach()] * 2, -1)[..., 0]
    assert strange.numel() < 2 or not strange.is_contiguous()
    assert_close(ours(strange), theirs(strange))


def memory_format(ours, theirs, x):
    if x.ndim > 3:
        last = x.contiguous(
            memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        )
        y, expected = ours(last), theirs(last)
        assert_close(y, expected)
        assert y.stride() == expected.stride()


def derivatives(ours, theirs, x):
    function, parameters = functional(ours)
    assert gradcheck(function, (clone(x), *parameters), fast_mode=True)
    assert gradgradcheck(function, (clone(x), *parameters), fast_mode=True)


def pickles_and_repr(ours, theirs, x):
    twin = pickle.loads(pickle.dumps(ours))
    assert_close(twin(x), ours(x))
    assert repr(ours) == repr(theirs).replace(type(theirs).__name__, "BatchNorm")


def training_differs(ours, theirs, x):
    if x.numel() and ours.track_running_stats:
        assert not torch.equal(ours.train()(x), ours.eval()(x))


def run(check, dtype=torch.float64):
    torch.manual_seed(SEED)  # the table and the checks draw
    count = 0
    for ours, theirs, x in cases(dtype):
        check(ours, theirs, x)
        count += 1
    return count


def errors():
    count = 0
    for info in TABLE:
        for entry in info.module_error_inputs_func(info, "cpu", torch.float32, False, True):
            made = entry.module_error_input.constructor_input
            layer = BatchNorm(*made.args, **made.kwargs)
            try:
                layer(*entry.module_error_input.forward_input.args)
            except entry.error_type:
                count += 1
            else:
                raise AssertionError(f"{made} was not refused")
    return count


if __name__ == "__main__":
    assert len(TABLE) == 3
    always = [forward_backward_and_state, non_contiguous, memory_format]
    always += [pickles_and_repr, training_differs]
    for path in ("plain", "one call", "blocks"):
        os.environ["BNKIT_KERNELS"] = "off" if path == "plain" else "on"
        aten.LIMITS.set(aten.Limits(small=0 if path == "blocks" else 10**9, block=80))
        # Second derivatives take the plain path.
        for check in always + ([derivatives] if path == "plain" else []):
            print(path, check.__name__, run(check))
        print(path, "float32", run(forward_backward_and_state, torch.float32))
        print(path, "errors", errors())
