"""Matrix products: of dense rows (`gemm`, `linear`), of mostly zeros (`marked`, `lazy`, `sparse`), and `packed`."""

from fastfnn_kernels.products import gemm, lazy, linear, marked, packed, sparse

__all__ = ["gemm", "lazy", "linear", "marked", "packed", "sparse"]
