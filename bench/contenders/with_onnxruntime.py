"""ONNX Runtime, inference only: the network as two Gemm nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from contenders import common


def _model() -> bytes:
    weights = common.first_weights()._asdict()
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("x", 784), ("logits", common.CLASSES))
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "mlp", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


class _Inference:
    def __init__(self, data: common.Data, batch: int, n_threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")  # its default, and its fastest
        self.session = onnxruntime.InferenceSession(_model(), options, providers=["CPUExecutionProvider"])
        self.feed = {"x": np.ascontiguousarray(data.x[:batch])}

    def run(self, count: int) -> None:
        for _ in range(count):
            (self.out,) = self.session.run(None, self.feed)

    def check(self) -> dict[str, float]:
        return common.inference_figures(np.asarray(self.out))


def variants(task: str, batch: int, n_threads: int, quick: bool) -> list[str]:
    return ["session.run"] if task == "inference" else []


def make(task: str, variant: str, data: common.Data, batch: int, n_threads: int) -> Any:
    return _Inference(data, batch, n_threads)
