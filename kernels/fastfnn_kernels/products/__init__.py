"""Matrix products: of dense rows (`gemm`, `linear`), of such as are mostly zeros (`marked`, `sparse`), and `packed`."""

from fastfnn_kernels.products import gemm, linear, marked, packed, sparse

__all__ = ["gemm", "linear", "marked", "packed", "sparse"]
