"""Checked functions that allocate their results: the kernels' public face.

Names and signatures follow ``torch.nn.functional``, but `linear` takes its weight as (in, out), so that it is
``x @ weight + bias``. Each function has a twin of the same name in `fastfnn_kernels.reference`.

Arrays are float32 or float64 (other numbers become float32); the result has the dtype of the first argument.
Backward functions take the upstream gradient first. Wrong shapes and dtypes raise `InvalidValueError` (a
`ValueError`) or `InvalidTypeError` (a `TypeError`). ``n_threads=None`` uses every core where the work is worth it.
"""

from __future__ import annotations

from fastfnn.functional._run import FLOPS_PER_NANOSECOND, NANOSECONDS_PER_ELEMENT, cores
from fastfnn.functional.activations import (
    leaky_relu,
    leaky_relu_backward,
    log,
    log_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from fastfnn.functional.convolution import conv2d, conv2d_backward
from fastfnn.functional.dropout import dropout, dropout_backward
from fastfnn.functional.embedding import embedding, embedding_backward
from fastfnn.functional.losses import (
    binary_cross_entropy,
    binary_cross_entropy_backward,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_backward,
    cross_entropy,
    cross_entropy_and_gradient,
    cross_entropy_backward,
    huber_loss,
    huber_loss_backward,
    l1_loss,
    l1_loss_backward,
    mse_loss,
    mse_loss_backward,
    nll_loss,
    nll_loss_backward,
    poisson_nll_loss,
    poisson_nll_loss_backward,
)
from fastfnn.functional.normalization import batch_norm, batch_norm_backward
from fastfnn.functional.pooling import (
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from fastfnn.functional.products import (
    linear,
    linear_backward,
    matmul,
    matmul_backward,
)

__all__ = [
    "FLOPS_PER_NANOSECOND",
    "NANOSECONDS_PER_ELEMENT",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_backward",
    "conv2d",
    "conv2d_backward",
    "cores",
    "cross_entropy",
    "cross_entropy_and_gradient",
    "cross_entropy_backward",
    "dropout",
    "dropout_backward",
    "embedding",
    "embedding_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "huber_loss",
    "huber_loss_backward",
    "l1_loss",
    "l1_loss_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "log",
    "log_backward",
    "log_softmax",
    "log_softmax_backward",
    "matmul",
    "matmul_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mse_loss",
    "mse_loss_backward",
    "nll_loss",
    "nll_loss_backward",
    "poisson_nll_loss",
    "poisson_nll_loss_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "tanh",
    "tanh_backward",
]
