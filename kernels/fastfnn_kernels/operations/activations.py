"""Activations: kernels, each on its thread's rows."""

from __future__ import annotations

import numpy as np

from fastfnn_kernels import activations, prelu, softmax
from fastfnn_kernels.operations._fields import Adds, Number, all_blocks, array, blocks, rows
from fastfnn_kernels.operations._registry import by_rows, by_shares

FLAT = rows("width", axes=1)

for _forward in (activations.relu, activations.sigmoid, activations.tanh, activations.log):
    by_rows(_forward, out=FLAT, x=FLAT)
by_rows(activations.leaky_relu, out=FLAT, x=FLAT, negative_slope=Number)

for _backward in (activations.relu_backward, activations.sigmoid_backward, activations.tanh_backward):
    by_rows(_backward, grad_x=FLAT, grad_out=FLAT, out=FLAT)
by_rows(activations.log_backward, grad_x=FLAT, grad_out=FLAT, x=FLAT)
by_rows(activations.leaky_relu_backward, grad_x=FLAT, grad_out=FLAT, x=FLAT, negative_slope=Number)

FROM_X = {"grad_x": FLAT, "grad_out": FLAT, "x": FLAT}
for _forward, _backward in (
    (activations.gelu, activations.gelu_backward),
    (activations.gelu_tanh, activations.gelu_tanh_backward),
    (activations.silu, activations.silu_backward),
    (activations.relu6, activations.relu6_backward),
    (activations.hardswish, activations.hardswish_backward),
):
    by_rows(_forward, out=FLAT, x=FLAT)
    by_rows(_backward, **FROM_X)
by_rows(activations.scaled_elu, out=FLAT, x=FLAT, alpha=Number, scale=Number)
by_rows(activations.scaled_elu_backward, **FROM_X, alpha=Number, scale=Number)
by_rows(activations.softplus, out=FLAT, x=FLAT, beta=Number, threshold=Number)
by_rows(activations.softplus_backward, **FROM_X, beta=Number, threshold=Number)

# Along the last axis, of which a row has so many blocks.
LAST_AXIS = rows("blocks", "width", axes=2)

by_rows(softmax.softmax, out=LAST_AXIS, x=LAST_AXIS)
by_rows(softmax.log_softmax, out=LAST_AXIS, scratch=LAST_AXIS, x=LAST_AXIS)
for _backward in (softmax.softmax_backward, softmax.log_softmax_backward):
    by_rows(_backward, grad_x=LAST_AXIS, grad_out=LAST_AXIS, out=LAST_AXIS)

# With learnt slopes.
CHANNELS, SLOPES, SUMS = rows("channels", "spatial"), array("channels"), blocks("channels", dtype=np.float64)

by_rows(prelu.prelu, out=CHANNELS, x=CHANNELS, weight=SLOPES)
by_rows(prelu.prelu_rows_backward, grad_x=CHANNELS, partials=SUMS, grad_out=CHANNELS, x=CHANNELS, weight=SLOPES)
by_shares(
    prelu.prelu_backward_weight,
    grad_weight=SLOPES,
    partials=all_blocks("channels", dtype=np.float64),
    accumulate=Adds,
)
