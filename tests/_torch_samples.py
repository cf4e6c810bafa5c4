"""PyTorch's own sample inputs, where its testing tools are installed."""

import numpy as np
import pytest


def samples(name, dtype):
    """Input, further arguments and settings of each call that PyTorch itself tests the operator `name` with."""
    torch = pytest.importorskip("torch")
    tools = pytest.importorskip("torch.testing._internal.common_methods_invocations", exc_type=ImportError)
    (operator,) = (each for each in tools.op_db if each.name == name and not each.variant_test_name)
    for sample in operator.sample_inputs("cpu", getattr(torch, np.dtype(dtype).name), requires_grad=False):
        yield sample.input, sample.args, sample.kwargs
