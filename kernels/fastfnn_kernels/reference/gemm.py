"""The matrix product that `products.gemm` must equal, in one line of NumPy, and the epilogues' codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_EPILOGUE, BIAS, BIAS_RELU, RELU_MASK = 0, 1, 2, 3


def gemm(
    out: NDArray[Any],
    a: NDArray[Any],
    b: NDArray[Any],
    extra: NDArray[Any],
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    accumulate: bool = False,
    epilogue: int = NO_EPILOGUE,
) -> NDArray[np.float64]:
    """``out (+)= alpha * op(a) @ op(b)``, then the epilogue; see `fastfnn_kernels.products.gemm.gemm`."""
    left = np.asarray(a, np.float64).T if transpose_a else np.asarray(a, np.float64)
    right = np.asarray(b, np.float64).T if transpose_b else np.asarray(b, np.float64)
    product = float(alpha) * (left @ right)
    if accumulate:
        product = product + out
    if epilogue in (BIAS, BIAS_RELU):
        product = product + extra
    if epilogue == BIAS_RELU:
        product = np.where(product < 0, 0, product)
    if epilogue == RELU_MASK:
        product = np.where(extra.reshape(product.shape) > 0, product, 0)
    return product
