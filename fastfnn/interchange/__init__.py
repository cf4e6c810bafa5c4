"""Models on disk, and from and for others: safetensors, PyTorch, ONNX. Each function imports the package it needs.

What a layer is called elsewhere it says itself: `Layer.to_torch`, `Layer.from_torch`, `Layer.to_onnx`. But for two, of
which `torch` knows: PyTorch has no `Normalize`, and its global pooling is two modules.
"""
