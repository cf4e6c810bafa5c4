"""Activations: kernels, each on its thread's rows."""

from __future__ import annotations

from fastfnn_kernels import activations, softmax
from fastfnn_kernels.operations._fields import Number, rows
from fastfnn_kernels.operations._registry import by_rows

FLAT = rows("width", axes=1)

for _forward in (activations.relu, activations.sigmoid, activations.tanh, activations.log):
    by_rows(_forward, out=FLAT, x=FLAT)
by_rows(activations.leaky_relu, out=FLAT, x=FLAT, negative_slope=Number)

for _backward in (activations.relu_backward, activations.sigmoid_backward, activations.tanh_backward):
    by_rows(_backward, grad_x=FLAT, grad_out=FLAT, out=FLAT)
by_rows(activations.log_backward, grad_x=FLAT, grad_out=FLAT, x=FLAT)
by_rows(activations.leaky_relu_backward, grad_x=FLAT, grad_out=FLAT, x=FLAT, negative_slope=Number)

# Along the last axis, of which a row has so many blocks.
LAST_AXIS = rows("blocks", "width", axes=2)

by_rows(softmax.softmax, out=LAST_AXIS, x=LAST_AXIS)
by_rows(softmax.log_softmax, out=LAST_AXIS, scratch=LAST_AXIS, x=LAST_AXIS)
for _backward in (softmax.softmax_backward, softmax.log_softmax_backward):
    by_rows(_backward, grad_x=LAST_AXIS, grad_out=LAST_AXIS, out=LAST_AXIS)
