"""Convolution, forward and backward: several ways through one geometry.

`geometry` says how a convolution lies in memory, `planes` brings images there. `lines` has vectors along the pixels,
`wide` along the channels, `sparse` walks only what 2×2 pooling let through, and `winograd` and `winograd_weight` have
fewer multiplications for 3×3 filters; `forward` and `backward` choose.
"""

from fastfnn_kernels.convolution import geometry
from fastfnn_kernels.convolution.backward import conv2d_backward, sum_blocks
from fastfnn_kernels.convolution.forward import conv2d
from fastfnn_kernels.reference.conv import PLAIN, POOL, RELU, RELU_POOL

__all__ = ["PLAIN", "POOL", "RELU", "RELU_POOL", "conv2d", "conv2d_backward", "geometry", "sum_blocks"]
