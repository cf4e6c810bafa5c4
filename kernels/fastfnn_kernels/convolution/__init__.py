"""Convolution, forward and backward: three ways through one geometry.

`geometry` says how a convolution lies in memory, `planes` brings images there. `lines` has vectors along the pixels,
`wide` along the channels, and `sparse` walks only what 2×2 pooling let through; `images` chooses, image by image.
"""

from fastfnn_kernels.convolution import geometry
from fastfnn_kernels.convolution.images import PLAIN, POOL, RELU, RELU_POOL, conv2d, conv2d_backward, sum_blocks

__all__ = ["PLAIN", "POOL", "RELU", "RELU_POOL", "conv2d", "conv2d_backward", "geometry", "sum_blocks"]
