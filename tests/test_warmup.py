"""Compiling ahead of time: what `warmup` leaves for a training to compile."""

import os

import pytest
from _helpers import run_python

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError

# Counts what is compiled or loaded: the signatures of all compiled functions, and the operations of programs.
COUNT = """
import sys
import numpy as np
import fastfnn as ff
from fastfnn_kernels.operations import _registry

def made():
    modules = [module for name, module in sys.modules.items() if name.startswith("fastfnn_kernels")]
    values = [value for module in modules for value in vars(module).values()]
    functions = {id(f): f for f in (getattr(value, "jitted", value) for value in values) if not isinstance(f, type)}
    jitted = {key: f for key, f in functions.items() if hasattr(f, "signatures")}
    return sum(len(f.signatures) for f in jitted.values()) + len(_registry._compiled)

ff.warmup((DTYPE,), MODEL)
before = made()
(x, y), test = ff.data.load_mnist_sample()
loss = ff.CrossEntropyLoss()
for optimizer in (ff.SGD(lr=0.01), ff.SGD(lr=0.01, momentum=0.9, nesterov=True), ff.Adam()):
    model = getattr(ff.models, MODEL)(dtype=DTYPE)
    ff.fit(model, x[:100], y[:100], loss=loss, optimizer=optimizer, epochs=2, batch_size=32, n_threads=2,
           validation_data=(x[:9], y[:9]), progress=False)
    ff.train_step(model, x[:3, None], y[:3], loss=loss, optimizer=optimizer)
    ff.evaluate(model, x[:200], y[:200], loss=loss)
    ff.predict(model, x[:3])
    ff.predict_proba(model, x[:200])
print(before > 5, made() - before)
"""


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
@pytest.mark.parametrize(("model", "dtype"), [("mlp", "float32"), ("mlp", "float64"), ("lenet5", "float32")])
def test_a_models_warmup_leaves_nothing_to_compile(model: str, dtype: str) -> None:
    done = run_python(COUNT.replace("DTYPE", repr(dtype)).replace("MODEL", repr(model)), "-W", "ignore::UserWarning")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True 0\n"


@pytest.mark.parametrize("model", ff.models.BY_NAME)
def test_it_says_how_long_it_took(model: str) -> None:
    assert ff.warmup(("float32",), model) > 0
    assert ff.warmup((), model) < 1


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InvalidValueError, match="model is 'alexnet'; expected one of 'mlp', 'lenet5', 'small_cnn'"):
        ff.warmup(model="alexnet")
    with pytest.raises(InvalidTypeError, match="dtype is float16"):
        ff.warmup(("float16",), "mlp")
