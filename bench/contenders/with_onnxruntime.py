"""ONNX Runtime, inference only: the network as a graph of a node a layer; a plain call, and one with bound buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from contenders import common
from contenders.networks import FLATTEN, POOL, RELU, Conv, Linear

CALL, BOUND = "session.run", "bound buffers"
PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    RELU: ("Relu", {}),
    POOL: ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    FLATTEN: ("Flatten", {}),
}


def _model(task: common.Task, labels: bool) -> bytes:
    network, constants = task.description, []
    weights, nodes = iter(common.first_weights(task)), []
    for number, layer in enumerate(network.layers):
        own = []
        if isinstance(layer, (Linear, Conv)):
            own = [numpy_helper.from_array(next(weights), f"{name}{number}") for name in ("weight", "bias")]
            constants += own
        how: dict[str, Any]
        if isinstance(layer, Conv):
            operator, how = "Conv", {"pads": [layer.padding] * 4}
        else:
            operator, how = ("Gemm", {}) if isinstance(layer, Linear) else PLAIN[layer]
        names = [f"x{number}", *(constant.name for constant in own)]
        nodes.append(helper.make_node(operator, names, [f"x{number + 1}"], **how))
    if labels:
        nodes.append(helper.make_node("ArgMax", [f"x{len(nodes)}"], [f"x{len(nodes) + 1}"], axis=1, keepdims=0))
    x = helper.make_tensor_value_info("x0", TensorProto.FLOAT, ["n", *network.shape])
    kind = TensorProto.INT64 if labels else TensorProto.FLOAT
    out = helper.make_tensor_value_info(f"x{len(nodes)}", kind, None)
    graph = helper.make_graph(nodes, "network", [x], [out], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


class _Session:
    """Outputs or, by a last node of the graph, labels.

    Bound once, inputs and outputs are read and written where they are: a caller fills and reads the same two arrays.
    """

    def __init__(self, task: common.Task, variant: str, data: common.Data, n_threads: int) -> None:
        self.labels, self.data = task.kind == "labels", data
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")  # its default, and its fastest
        self.session = onnxruntime.InferenceSession(
            _model(task, self.labels), options, providers=["CPUExecutionProvider"]
        )
        self.feed, self.names = {"x0": common.inputs(task, data)}, [self.session.get_outputs()[0].name]
        self.binding: Any = None
        if variant == BOUND:
            (self.out,) = self.session.run(self.names, self.feed)
            self.binding, of = self.session.io_binding(), onnxruntime.OrtValue.ortvalue_from_numpy
            self.values = of(self.feed["x0"]), of(np.zeros_like(self.out))
            self.binding.bind_ortvalue_input("x0", self.values[0])
            self.binding.bind_ortvalue_output(self.names[0], self.values[1])

    def run(self, count: int) -> None:
        if self.binding is not None:
            for _ in range(count):
                self.session.run_with_iobinding(self.binding)
            self.out = self.values[1].numpy()
            return
        for _ in range(count):
            (self.out,) = self.session.run(self.names, self.feed)

    def check(self) -> dict[str, float]:
        if self.labels:
            return common.labels_figures(lambda x: self.session.run(None, {"x0": x})[0], self.feed["x0"], self.data)
        return common.inference_figures(np.asarray(self.out))


def variants(task: common.Task, n_threads: int, quick: bool) -> list[str]:
    return [CALL, BOUND] if task.kind in (*common.INFERENCE, "labels") else []


def make(task: common.Task, variant: str, data: common.Data, n_threads: int) -> Any:
    return _Session(task, variant, data, n_threads)
