"""Slow, obvious NumPy twins of every kernel, in float64. They are the specification; they import nothing of numba."""

from fastfnn_kernels.reference.activations import (
    SELU_ALPHA,
    SELU_SCALE,
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    gelu_tanh,
    gelu_tanh_backward,
    hardswish,
    hardswish_backward,
    leaky_relu,
    leaky_relu_backward,
    log,
    log_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
    scaled_elu,
    scaled_elu_backward,
    selu,
    selu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)
from fastfnn_kernels.reference.conv import (
    conv2d,
    conv2d_backward,
    conv2d_fused,
    conv2d_fused_backward,
    conv2d_fused_backward_weight,
    sum_blocks,
)
from fastfnn_kernels.reference.dropout import (
    dropout,
    dropout2d,
    dropout2d_backward,
    dropout_backward,
    dropout_elements,
    dropout_planes,
)
from fastfnn_kernels.reference.gemm import gemm
from fastfnn_kernels.reference.layer_norm import (
    layer_norm,
    layer_norm_backward,
    layer_norm_backward_weight,
    layer_norm_rows,
    layer_norm_rows_backward,
)
from fastfnn_kernels.reference.lazy import add_pending, defer, settle
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
    huber_gradient,
    huber_loss,
    huber_loss_backward,
    huber_losses,
    l1_gradient,
    l1_loss,
    l1_loss_backward,
    l1_losses,
    mse_gradient,
    mse_loss,
    mse_loss_backward,
    mse_losses,
    nll_gradient,
    nll_loss,
    nll_loss_backward,
    nll_losses,
    poisson_nll_gradient,
    poisson_nll_loss,
    poisson_nll_loss_backward,
    poisson_nll_losses,
)
from fastfnn_kernels.reference.marked import mark_nonzeros, marked_backward_weight, marked_linear
from fastfnn_kernels.reference.normalization import (
    batch_norm,
    batch_norm_apply,
    batch_norm_backward,
    batch_norm_backward_apply,
    batch_norm_backward_coefficients,
    batch_norm_backward_combine,
    batch_norm_backward_sums,
    batch_norm_coefficients,
    batch_norm_combine,
    batch_norm_moments,
    batch_norm_running,
    normalize,
)
from fastfnn_kernels.reference.optim import (
    adagrad,
    adam,
    clip_step,
    rmsprop,
    sgd,
    sgd_momentum,
    square_sums,
)
from fastfnn_kernels.reference.packed import packed_linear
from fastfnn_kernels.reference.padding import pad_planes, pad_planes_backward, zero_pad2d, zero_pad2d_backward
from fastfnn_kernels.reference.pool import (
    avg_pool,
    avg_pool2d,
    avg_pool2d_backward,
    avg_pool_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    max_pool,
    max_pool2d,
    max_pool2d_backward,
    max_pool_backward,
)
from fastfnn_kernels.reference.prelu import prelu, prelu_backward, prelu_backward_weight, prelu_rows_backward
from fastfnn_kernels.reference.softmax import (
    cross_entropy,
    cross_entropy_backward,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
    softmax_cross_entropy,
)
from fastfnn_kernels.reference.sparse import csr_nonzeros, sparse_backward_weight, sparse_linear
