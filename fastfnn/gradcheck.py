"""Check a layer's, model's or loss's gradients against central differences."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn.errors import FastFNNError, InvalidTypeError
from fastfnn.layers import Layer
from fastfnn.layers.random import RandomLayer
from fastfnn.losses import Loss
from fastfnn.model import Sequential

Array = NDArray[Any]


class GradientError(FastFNNError, AssertionError):
    """A gradient is wrong; the message gives the worst element's place and both values."""


def gradcheck(
    module: Layer | Sequential | Loss,
    *inputs: ArrayLike,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    max_elements: int = 1000,
    seed: int = 0,
) -> float:
    """Compare `module.backward` with central differences of `module.forward`, in float64.

    The upstream gradient is random: with a gradient of ones, a softmax's would be zero, and a backward that returns
    nothing would pass. Keep inputs off the kinks of ReLU and the like. Layers are in the mode they are in; dropout has
    the same mask at every evaluation.

    Parameters
    ----------
    module : Layer, Sequential or Loss
        It is copied, not changed.
    *inputs : array_like
        What `forward` takes. A loss takes prediction and target, of which only the prediction is checked.
    eps : float
        Step of the differences.
    rtol, atol : float
        ``|analytic - numeric| <= atol + rtol * |numeric|`` must hold.
    max_elements : int
        Of a larger array, this many elements are drawn at random.
    seed : int
        Of the upstream gradient and the draw.

    Returns
    -------
    float
        The largest ``|analytic - numeric|``.

    Raises
    ------
    GradientError
        An element is off.

    Notes
    -----
    (f(x + ε) - f(x - ε)) / 2ε has an error of O(ε²) from the series and O(1e-16 / ε) from rounding, so about 1e-10
    at ε = 1e-6.
    """
    rng = np.random.default_rng(seed)
    module, arrays = _in_float64(module, inputs)
    forward = _repeatable(module, lambda: module.forward(*arrays))
    out = np.asarray(forward(), np.float64)
    upstream = rng.normal(size=out.shape)

    if isinstance(module, Loss):
        upstream = np.ones_like(out)  # a loss's backward takes none
        analytic, checked = [module.backward()], [("prediction", arrays[0])]
    else:
        grads = module.backward(upstream)
        analytic = list(grads) if isinstance(grads, tuple) else [grads]
        checked = [("x" if len(arrays) == 1 else f"input {i}", array) for i, array in enumerate(arrays)]
        for place, layer in _layers(module):
            if not layer.trainable:
                continue  # it has no gradients
            for name, array in layer.params.items():
                checked.append((f"{place} {name}".strip(), array))
                analytic.append(layer.grads[name].copy())

    worst = 0.0
    for (name, array), gradient in zip(checked, analytic, strict=True):
        if gradient.shape != array.shape:
            raise GradientError(f"the gradient for {name} has shape {gradient.shape}; expected {array.shape}")
        worst = max(
            worst,
            _check(name, array, gradient, forward, upstream, rng, eps, rtol, atol, max_elements),
        )
    return worst


def _layers(module: Any) -> list[tuple[str, Layer]]:
    """All layers of a model or a layer, with their places."""
    if isinstance(module, Sequential):
        return [found for i, layer in enumerate(module.layers) for found in layer.family(f"layers[{i}]")]
    return module.family() if isinstance(module, Layer) else []


def _repeatable(module: Any, forward: Callable[[], Any]) -> Callable[[], Any]:
    """`forward`, each time from the state of now: with the same mask of dropout and the same running statistics."""
    layers = [layer for _, layer in _layers(module)]
    buffers = [(array, array.copy()) for layer in layers for array in layer.buffers.values()]
    steps = [(layer, layer.step) for layer in layers if isinstance(layer, RandomLayer)]

    def run() -> Any:
        for array, kept in buffers:
            array[...] = kept
        for layer, step in steps:
            layer.step = step
        return forward()

    return run


def _in_float64(module: Any, inputs: tuple[ArrayLike, ...]) -> tuple[Any, list[Array]]:
    """A copy of `module` and writable copies of its inputs, all in float64; targets stay as they are."""
    if not isinstance(module, (Layer, Sequential, Loss)):
        raise InvalidTypeError(f"module is {module!r}; expected a layer, a Sequential or a loss")
    if isinstance(module, Sequential):
        module = module.astype(np.float64)
    else:
        module = copy.deepcopy(module)
        if isinstance(module, Layer):
            module.build(np.random.default_rng(0), np.float64)
    arrays = [np.array(check.float_array(f"input {i}", x, dtype=np.float64)) for i, x in enumerate(inputs)]
    if isinstance(module, Loss):
        arrays[1:] = [np.asarray(x) for x in inputs[1:]]
    return module, arrays


def _check(
    name: str,
    array: Array,
    gradient: Array,
    forward: Callable[[], Any],
    upstream: Array,
    rng: np.random.Generator,
    eps: float,
    rtol: float,
    atol: float,
    max_elements: int,
) -> float:
    places = np.arange(array.size)
    if array.size > max_elements:
        places = rng.choice(array.size, max_elements, replace=False)
    numeric = np.empty(len(places))
    for i, place in enumerate(places):
        index = np.unravel_index(place, array.shape)
        kept = array[index]
        sides = []
        for side in (kept + eps, kept - eps):
            array[index] = side
            sides.append(np.array(forward(), np.float64))
        array[index] = kept
        # The difference first, element by element: a sum of large outputs would round the small change away.
        numeric[i] = np.sum(upstream * (sides[0] - sides[1])) / (2 * eps)
    error = np.abs(gradient.reshape(-1)[places] - numeric)
    excess = error - (atol + rtol * np.abs(numeric))
    bad = ~(excess <= 0)  # also where something is NaN
    if bad.any():
        i = int(np.argmax(np.where(np.isnan(excess), np.inf, excess)))
        at = tuple(int(k) for k in np.unravel_index(places[i], array.shape))
        raise GradientError(
            f"the gradient for {name} is wrong at {at}: backward gives {gradient[at]:.9g}, central differences give "
            f"{numeric[i]:.9g}; {int(bad.sum())} of {len(places)} elements checked are off"
        )
    return float(error.max()) if len(error) else 0.0
