"""Input and matrix products."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from fastfnn_kernels import normalization, optim
from fastfnn_kernels.operations._data import data_row, prefetch_row, refuse_row
from fastfnn_kernels.operations._fields import (
    NETWORK,
    Address,
    Adds,
    Array,
    Count,
    DType,
    Flag,
    Float64,
    NThreads,
    Place,
    Setting,
    Source,
    Tid,
    all_rows,
    array,
    each_threads,
    own,
    rows,
    rows_up_to_mine,
    source_rows,
)
from fastfnn_kernels.operations._registry import by_rows, by_shares, operation
from fastfnn_kernels.products import gemm, linear, packed
from fastfnn_kernels.simd import array_at

Rows = Annotated[Array, rows("width")]
Channels = Annotated[Array, array("channels")]
Columns = Annotated[Array, array("width")]

#: What a `product` is: a layer's forward, the gradients of its input and of its weight, an SGD step of the weight.
FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, SGD_STEP = range(4)

_gemm, _column_sum, _packed_rows = gemm.gemm.inlined, linear.column_sum.inlined, packed.linear_rows
_normalize, _sgd = normalization.normalize.inlined, optim.sgd.inlined


@operation
def gather(
    out: Rows,
    data: Annotated[Array, source_rows("width")],
    factor: Channels,
    shift: Channels,
    width: Count,
    place: Place,
) -> None:
    """The chunk's rows of the data, scaled, in the network's dtype."""
    n = out.shape[0]
    for i in range(n):
        prefetch_row(place, data, width, min(i + 2, n - 1))
        row = data_row(place, place.first + i)
        _normalize(out[i : i + 1], data[row : row + 1], factor, shift, 0, 1)


@operation
def gather_labels(
    out: Annotated[Array, rows(dtype=np.int64)],
    data: Annotated[Array, source_rows(dtype=np.int64)],
    classes: Count,
    place: Place,
) -> None:
    """The chunk's labels, which are places in a row of as many outputs."""
    for i in range(out.size):
        row = data_row(place, place.first + i)
        label = data[row]
        out[i] = label if 0 <= label < classes else 0
        if label != out[i]:
            refuse_row(place, row)


@operation
def store(
    out: Annotated[Array, source_rows("width", dtype=NETWORK, axes=1)],
    x: Annotated[Array, rows("width", axes=1)],
    width: Count,
    place: Place,
) -> None:
    """Rows to where the caller wants them, in the order of the data."""
    first = (place.start + place.first) * width
    result = out[first : first + x.size]
    for i in range(x.size):
        result[i] = x[i]


# A `Normalize` inside the network.
by_rows(normalization.normalize, out=Rows, x=Rows, factor=Channels, shift=Channels)


@operation
def product(
    out: Address,
    scratch: Annotated[Array, each_threads("panel")],
    a: Address,
    data: Source,
    b: Address,
    extra: Address,
    k: Count,
    n: Count,
    form: Count,
    epilogue: Count,
    alpha: Setting,
    place: Place,
    dtype: DType,
) -> None:
    """A product of rows and a (k, n) weight; `a` may be rows of the data in the network's dtype, read as they lie.

    FORWARD: out (rows, n) = a (rows, k) @ b (k, n), through the epilogue; and INPUT_GRADIENT: out (rows, n) = a @ b.T
    with b (n, k). WEIGHT_GRADIENT: out (k, n) (+)= alpha * a.T @ b over all rows of both; each thread does its share of
    out. SGD_STEP: that is added to the weight itself.
    """
    tid, n_threads, pads = place.tid, place.n_threads, scratch
    first, last = (0, place.rows) if form >= WEIGHT_GRADIENT else (place.first, place.last)
    if data:
        left = array_at(data, (place.start + last, k), dtype)[place.start + first :]
    else:
        left = array_at(a, (last, k), dtype)[first:]
    adds = form == SGD_STEP or (form == WEIGHT_GRADIENT and place.adds != 0)
    if form >= WEIGHT_GRADIENT:
        result, right = array_at(out, (k, n), dtype), array_at(b, (last, n), dtype)
        more = array_at(extra, (0,), dtype)
    else:
        result, right = array_at(out, (last, n), dtype)[first:], array_at(b, (k, n), dtype)
        more = array_at(extra, (n,), dtype)
        if form == INPUT_GRADIENT:
            right = array_at(b, (n, k), dtype)
        if epilogue == gemm.RELU_MASK:
            more = array_at(extra, (last * n,), dtype)[first * n :]
        pads, tid, n_threads = scratch[tid : tid + 1], 0, 1  # the rows are this thread's alone
    # One call for all forms: numba compiles the whole of it for each.
    # fmt: off
    _gemm(result, pads, left, right, more, form >= WEIGHT_GRADIENT, form == INPUT_GRADIENT, alpha, adds, epilogue, tid,
          n_threads)
    # fmt: on


@operation
def packed_product(
    out: Annotated[Array, rows_up_to_mine("n")],
    marks: Annotated[Array, own("words", dtype=np.int64)],
    zeros: Annotated[Array, own("block", dtype=np.float64)],
    a: Address,
    data: Source,
    strips: Annotated[Array, array("strips_count", "k", "width")],
    bias: Annotated[Array, array("n")],
    sums: Annotated[Array, array("n")],
    k: Count,
    most: Float64,
    reach: Float64,
    relu: Flag,
    place: Place,
    dtype: DType,
) -> None:
    """A layer's forward with a packed weight, see `products.packed`; `a` may be rows of the data, read as they lie."""
    if data:
        left = array_at(data, (place.start + place.last, k), dtype)[place.start :]
    else:
        left = array_at(a, (place.last, k), dtype)
    _packed_rows(out, marks, zeros, left, strips, bias, sums, most, reach, relu, place.first, place.last)


by_shares(linear.column_sum, out=Columns, x=all_rows("width"), accumulate=Adds)


@operation
def column_sum_sgd(
    out: Columns, x: Annotated[Array, all_rows("width")], param: Columns, lr: Setting, tid: Tid, n_threads: NThreads
) -> None:
    """A bias's gradient, and at once its SGD step."""
    _column_sum(out, x, False, tid, n_threads)
    # The columns that this thread has just summed.
    start, stop = linear.column_share(out.size, out.itemsize, tid, n_threads)
    _sgd(param[start:stop], out[start:stop], lr, out.dtype.type(0), 0, 1)
