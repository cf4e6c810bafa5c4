"""Models from and for others: PyTorch and ONNX. `fastfnn` itself names the functions; each imports its package."""
