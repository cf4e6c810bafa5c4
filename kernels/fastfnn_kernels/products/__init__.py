"""Matrix products: of dense rows (`gemm`, `linear`), and of such as are mostly zeros (`marked`, `sparse`)."""

from fastfnn_kernels.products import gemm, linear, marked, sparse

__all__ = ["gemm", "linear", "marked", "sparse"]
