"""Slow, obvious NumPy twins of every kernel, in float64. They are the specification; they import nothing of numba."""

from fastfnn_kernels.reference.activations import (
    leaky_relu,
    leaky_relu_backward,
    log,
    log_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from fastfnn_kernels.reference.gemm import gemm
from fastfnn_kernels.reference.linear import (
    column_sum,
    linear,
    linear_backward,
    linear_backward_input,
    linear_backward_weight,
    linear_relu,
    matmul,
    matmul_backward,
)
from fastfnn_kernels.reference.losses import (
    bce_gradient,
    bce_losses,
    bce_with_logits_gradient,
    bce_with_logits_losses,
    binary_cross_entropy,
    binary_cross_entropy_backward,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_backward,
    mse_gradient,
    mse_loss,
    mse_loss_backward,
    mse_losses,
    nll_gradient,
    nll_loss,
    nll_loss_backward,
    nll_losses,
)
from fastfnn_kernels.reference.normalization import normalize
from fastfnn_kernels.reference.optim import adam, sgd, sgd_momentum
from fastfnn_kernels.reference.softmax import (
    cross_entropy,
    cross_entropy_backward,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
    softmax_cross_entropy,
)
