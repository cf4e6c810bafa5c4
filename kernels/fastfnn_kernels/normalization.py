"""Scaling of inputs into the network's dtype."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import kernel
from fastfnn_kernels.team import share


@kernel(reference.normalize)
def normalize(
    out: NDArray[Any], x: NDArray[Any], factor: NDArray[Any], shift: NDArray[Any], tid: int, n_threads: int
) -> None:
    """``x * factor + shift``, read from any numeric dtype (uint8 images as they come) and written in `out`'s.

    Parameters
    ----------
    out, x : (n, features)
        Features are `channels` equal blocks, one behind the other, as in an (n, c, h, w) image.
    factor, shift : (channels,), of `out`'s dtype

    Notes
    -----
    Loop order: rows, channels, features of the channel. Each thread does its share of the rows.
    """
    rows, features = x.shape
    channels = factor.size
    block = features // channels
    start, stop = share(rows, tid, n_threads, 1)
    for row in range(start, stop):
        for channel in range(channels):
            f, s = factor[channel], shift[channel]
            pixels = x[row, channel * block : (channel + 1) * block]
            scaled = out[row, channel * block : (channel + 1) * block]
            for j in range(scaled.size):
                scaled[j] = out.dtype.type(pixels[j]) * f + s
