"""onnxruntime: the operator BatchNormalization of ONNX, opset 15, on the CPU. No gradients."""

from functools import cache

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from bnkit.conformance import Step

INSTALL = "onnxruntime onnx"
PACKAGES = ("onnxruntime", "onnx")
TYPES = {"float64": "DOUBLE", "float32": "FLOAT", "float16": "FLOAT16"}


@cache
def session(dtype, training):
    kind = getattr(TensorProto, TYPES[dtype])
    inputs = [helper.make_tensor_value_info(n, kind, None) for n in ("x", "g", "b", "mean", "var")]
    names = ["y", "new_mean", "new_var"] if training else ["y"]
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in names]
    mode = {"training_mode": int(training)}
    node = helper.make_node("BatchNormalization", [i.name for i in inputs], names, **mode)
    graph = helper.make_graph([node], "bn", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=9)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def operator():
    def given(x, gamma, beta, state):
        d = x.shape[1]
        mean, var = (np.zeros(d), np.ones(d)) if state is None else state
        arrays = {"x": x, "g": gamma, "b": beta, "mean": mean, "var": var}
        return {name: np.ascontiguousarray(array, x.dtype) for name, array in arrays.items()}

    def step(x, gamma, beta, dy, state):
        feed = given(x, gamma, beta, state)
        y, mean, var = session(str(x.dtype), True).run(None, feed)
        return Step(y, mean=mean, var=var, state=(mean, var))

    def infer(x, gamma, beta, dy, state):
        (y,) = session(str(x.dtype), False).run(None, given(x, gamma, beta, state))
        return Step(y, mean=state[0], var=state[1], state=state)

    load = {"load": lambda mean, var: (mean, var)}
    return {"step": step, "infer": infer, "momentum": 0.9, **load}


CARDS = {"onnxruntime": operator}
