"""Converters for skl2onnx: `to_onnx` takes pipelines with our estimators in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastfnn.interchange.onnx_export import Graph
from fastfnn.sklearn._classifier import FNNClassifier
from fastfnn.sklearn._regressor import FNNRegressor


def register_skl2onnx() -> None:
    """Make `FNNClassifier` and `FNNRegressor` known to skl2onnx (``pip install skl2onnx``), in this process.

    >>> from skl2onnx import to_onnx
    >>> fastfnn.sklearn.register_skl2onnx()
    >>> graph = to_onnx(pipeline, X[:1].astype("float32"), options={"zipmap": False})

    Labels and probabilities, or numbers, come out as they do for scikit-learn's `MLPClassifier` and `MLPRegressor`.

    Raises
    ------
    ImportError
        The package skl2onnx is missing.
    """
    try:
        from skl2onnx import update_registered_converter
        from skl2onnx.common.shape_calculator import (
            calculate_linear_classifier_output_shapes,
            calculate_linear_regressor_output_shapes,
        )
    except ImportError as error:
        raise ImportError("register_skl2onnx needs the package skl2onnx (pip install skl2onnx)") from error
    update_registered_converter(
        FNNClassifier,
        "FastFNNClassifier",
        calculate_linear_classifier_output_shapes,
        _convert_classifier,
        options={"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]},
    )
    update_registered_converter(
        FNNRegressor, "FastFNNRegressor", calculate_linear_regressor_output_shapes, _convert_regressor
    )


class _Nodes:
    """Nodes of one estimator, each with names that nothing else in the graph has."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        import onnx

        self.onnx, self.scope, self.operator, self.container = onnx, scope, operator, container

    def add(self, op: str, *inputs: str, out: str | None = None, version: int = 13, **attributes: Any) -> str:
        """A node, and the name of its output."""
        name = self.scope.get_unique_operator_name(op)
        out = str(self.scope.get_unique_variable_name(op)) if out is None else out
        self.container.add_node(op, list(inputs), [out], op_version=version, name=name, **attributes)
        return out

    def constant(self, values: Any) -> str:
        """A constant's name."""
        name, array = self.scope.get_unique_variable_name("constant"), np.asarray(values)
        kind = self.onnx.TensorProto.STRING
        content: list[Any] = [str(value).encode() for value in array.ravel()]
        if array.dtype.kind not in "OUS":
            kind, content = self.onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.ravel().tolist()
        self.container.add_initializer(name, kind, list(array.shape), content)
        return name

    def outputs_of(self, estimator: Any) -> str:
        """The network's outputs (n, …)."""
        from skl2onnx.common.data_types import guess_numpy_type

        model, source = estimator.model_, self.operator.inputs[0]
        given, shape = source.full_name, estimator._input_shape
        if shape is not None:
            given = self.add("Reshape", given, self.constant(np.array([-1, *shape], np.int64)))
        sample = (estimator.n_features_in_,) if shape is None else tuple(shape)
        proto = Graph(self.onnx, model).write(sample, np.dtype(guess_numpy_type(source.type)))
        names = {"x": given}
        for tensor in proto.graph.initializer:
            names[tensor.name] = self.constant(self.onnx.numpy_helper.to_array(tensor))
        version = proto.opset_import[0].version
        for node in proto.graph.node:
            attributes = {each.name: self.onnx.helper.get_attribute_value(each) for each in node.attribute}
            inputs = [names[each] for each in node.input]
            names[node.output[0]] = self.add(node.op_type, *inputs, version=version, **attributes)
        return names["y"]

    def end(self, value: str, place: int, to: int | None = None) -> None:
        """Have a value be an output of the estimator, in the dtype that was announced."""
        from skl2onnx.common.data_types import DoubleTensorType

        target, types = self.operator.outputs[place], self.onnx.TensorProto
        if to is None:
            to = types.DOUBLE if isinstance(target.type, DoubleTensorType) else types.FLOAT
        self.add("Cast", value, out=target.full_name, to=to)


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    nodes, estimator = _Nodes(scope, operator, container), operator.raw_operator
    outputs = nodes.outputs_of(estimator)
    nodes.end(outputs if estimator._link is None else nodes.add("Exp", outputs), 0)


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    nodes, estimator = _Nodes(scope, operator, container), operator.raw_operator
    logits, int64 = nodes.outputs_of(estimator), nodes.onnx.TensorProto.INT64
    one_logit = estimator.n_outputs_ == 1 and not estimator._multilabel
    if estimator._multilabel:
        probabilities = nodes.add("Sigmoid", logits)
        zero = nodes.constant(np.zeros(1, estimator.model_.dtype))
        nodes.end(nodes.add("Greater", logits, zero), 0, int64)
    elif one_logit and len(estimator.classes_) == 2:
        both = nodes.add("Concat", nodes.add("Neg", logits), logits, axis=1)
        probabilities = nodes.add("Sigmoid", both)
    else:  # of a single class one logit, too, whose softmax is 1
        probabilities = nodes.add("Softmax", logits, axis=1)
    if not estimator._multilabel:
        largest = nodes.add("ArgMax", probabilities, axis=1, keepdims=0)
        classes, text = estimator.classes_, estimator.classes_.dtype.kind in "OUS"
        found = nodes.add("Gather", nodes.constant(classes if text else classes.astype(np.int64)), largest)
        if text:
            nodes.add("Identity", found, out=operator.outputs[0].full_name)
        else:
            nodes.end(found, 0, int64)
    nodes.end(probabilities, 1)
