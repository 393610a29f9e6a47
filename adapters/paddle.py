"""paddle: `nn.BatchNorm1D`, `2D` and `3D`."""

import paddle

from bnkit.conformance import Step

INSTALL = "paddlepaddle"
PACKAGES = ("paddlepaddle",)
paddle.set_device("cpu")
KINDS = {2: paddle.nn.BatchNorm1D, 4: paddle.nn.BatchNorm2D, 5: paddle.nn.BatchNorm3D}


def layer():
    def call(x, gamma, beta, dy, state, training, dtype=None):
        paddle.set_default_dtype(dtype or str(x.dtype))
        absent = {} if gamma is not None else {"weight_attr": False, "bias_attr": False}
        bn = KINDS[x.ndim](x.shape[1], **absent)
        (bn.train if training else bn.eval)()
        x, dy = (paddle.to_tensor(v, dtype=dtype) for v in (x, dy))
        x.stop_gradient = False
        leaves = [x]
        if gamma is not None:
            bn.weight.set_value(paddle.to_tensor(gamma, dtype=bn.weight.dtype))
            bn.bias.set_value(paddle.to_tensor(beta, dtype=bn.bias.dtype))
            leaves += [bn.weight, bn.bias]
        if state is not None:
            bn._mean.set_value(state[0])
            bn._variance.set_value(state[1])
        y = bn(x)
        gradients = [*paddle.grad(y, leaves, dy), None, None][:3]
        state = array(bn._mean), array(bn._variance)
        return Step(*map(array, (y, *gradients)), *state, state)

    def half(x, gamma, beta, dy, state):
        return call(x, gamma, beta, dy, state, True, "bfloat16")

    return {
        "step": lambda *given: call(*given, True),
        "infer": lambda *given: call(*given, False),
        "bfloat16": half,
        "momentum": 0.9,
        "load": lambda mean, var: (mean, var),
    }


def array(value):
    if value is None:
        return None
    return (value.astype("float32") if value.dtype == paddle.bfloat16 else value).numpy()


CARDS = {"paddle": layer}
