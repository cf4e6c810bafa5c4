"""What training and inference make of their arguments: checked arrays, and a team of threads."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn._warnings import warn
from fastfnn.engine import lowering
from fastfnn.engine.lowering import skips_zeros
from fastfnn.engine.sparsity import CSR, is_sparse_matrix
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.functional._run import team_size
from fastfnn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    LeakyReLU,
    Linear,
    LogSoftmax,
    Normalize,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from fastfnn.losses import BCEWithLogitsLoss, CrossEntropyLoss, Loss, NLLLoss
from fastfnn.model import Sequential, as_sequential
from fastfnn.training.weights import ClassWeight, Weights, row_weights

Array = NDArray[Any]
Inputs = ArrayLike | CSR
#: A `Normalize` of at most this scale is for images of bytes; rows that are looked at to see whether they are that.
MOST_SCALE, SAMPLE_ROWS = 1 / 128, 64
#: Layers whose outputs are no logarithms of probabilities.
NO_LOGARITHMS = (Linear, Conv2d, ReLU, LeakyReLU, Sigmoid, Tanh, Softmax, BatchNorm1d, BatchNorm2d)

#: Nanoseconds of one thread's work below which a second does not pay: for a call, which wakes its threads (100,000 of
#: work gain a tenth where calls follow each other, and lose a tenth where they do not), and for a step, which has three
#: barriers, and whose parameters go from core to core.
WORK_WORTH_CALL, WORK_WORTH_STEP, WORK_WORTH_BYTE = 150_000.0, 30_000.0, 0.2


def as_inputs(model: Any, x: Inputs, name: str = "x") -> tuple[Array | CSR, tuple[int, ...]]:
    """`x` as the kernels take it, and what shape the model makes of a sample."""
    as_sequential(model)
    if isinstance(x, CSR) or is_sparse_matrix(x):
        if not skips_zeros(model.layers):
            raise InvalidTypeError(
                f"{name} is a sparse matrix; expected an array, for only a model that begins with Linear takes sparse "
                "matrices (a Normalize with one mean and std may come first)"
            )
        matrix = x if isinstance(x, CSR) else CSR(name, x, model.dtype)
        return matrix, _output_shape(model, matrix, name)
    array = check.numbers(name, check.as_array(name, x), model.dtype)
    if array.ndim < 2:
        raise InvalidValueError(f"{name} has shape {array.shape}; expected (n, …), a sample in each row")
    if 0 in array.shape[1:]:
        raise InvalidValueError(f"{name} has shape {array.shape}; expected samples of at least one number")
    output_shape = _output_shape(model, array, name)
    _warn_of_scaled_images(model, array, name)
    return array, output_shape


def _warn_of_scaled_images(model: Sequential, x: Array, name: str) -> None:
    """Say so where images from 0 to 1 come to a model that divides by 255."""
    layers = model.chain if model.layers[0].holds_others else model.layers
    first = layers[1] if type(layers[0]) is Flatten and len(layers) > 1 else layers[0]
    if type(first) is not Normalize or not 0 < first.scale <= MOST_SCALE or x.dtype.kind != "f":
        return
    largest = x[:SAMPLE_ROWS].max(initial=0)
    if 0 < largest <= 1:
        warn(
            f"{name} holds floats of at most {largest:.3g}, but the model's {first!r} scales them by "
            f"{first.scale:.3g} again: expected images from 0 to 255, or scale=1 in the model for those from 0 to 1"
        )


def _output_shape(model: Sequential, x: Array | CSR, name: str) -> tuple[int, ...]:
    try:
        return model.output_shape(x.shape[1:])
    except InvalidValueError as error:
        raise InvalidValueError(f"{name} has shape {x.shape}: {error}") from None


def as_data(
    model: Sequential,
    loss: Any,
    x: Inputs,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    class_weight: ClassWeight | None = None,
    prefix: str = "",
) -> tuple[Array | CSR, Array, Weights | None]:
    """Inputs, targets and weights of the rows as the kernels take them. `prefix` goes before their names in errors."""
    x_name, y_name = f"{prefix}x", f"{prefix}y"
    array, output_shape = as_inputs(model, x, x_name)
    check.instance("loss", loss)
    if not isinstance(loss, Loss):
        raise InvalidTypeError(f"loss is {loss!r}; expected a loss such as CrossEntropyLoss()")
    if loss.reduction == "none":
        raise InvalidValueError('loss has reduction "none"; expected "mean" or "sum"')
    target = check.as_array(y_name, y)
    rows = len(target) if target.ndim else 0
    if rows != len(array):
        raise InvalidValueError(f"{y_name} has {rows} rows; expected {len(array)}, as many as {x_name}")
    if not rows:
        raise InvalidValueError(f"{x_name} has shape {array.shape}; expected at least one row")
    try:
        target = loss.check_target(target, output_shape, model.dtype)
    except (InvalidValueError, InvalidTypeError) as error:
        raise type(error)(str(error).replace("y ", f"{y_name} ", 1)) from None
    if not prefix:
        _warn_of_last_layer(model, loss)
    return array, target, row_weights(loss, target, output_shape, sample_weight, class_weight, f"{prefix}sample_weight")


def _warn_of_last_layer(model: Sequential, loss: Loss) -> None:
    """Say so where the model's last layer does what the loss does again, or does not what it needs."""
    last = model.last_layer
    if type(loss) is CrossEntropyLoss and isinstance(last, (Softmax, LogSoftmax)):
        warn(
            "CrossEntropyLoss takes logits, for it makes the softmax and its logarithm itself, but the model ends with "
            f"{last!r}: expected it without this layer (predict_proba gives probabilities), or LogSoftmax and NLLLoss"
        )
    elif type(loss) is NLLLoss and type(last) in NO_LOGARITHMS:
        warn(
            f"NLLLoss takes log-probabilities, but the model ends with {last!r}: expected LogSoftmax() behind it, or "
            "CrossEntropyLoss, which takes logits"
        )
    elif type(loss) is BCEWithLogitsLoss and isinstance(last, Sigmoid):
        warn(
            f"BCEWithLogitsLoss takes logits, for it makes the sigmoid itself, but the model ends with {last!r}: "
            "expected it without this layer, or BCELoss"
        )


def may_be_one(n_threads: Any) -> bool:
    """Whether it says, beyond doubt, that one thread will do."""
    return n_threads is None or (type(n_threads) is int and n_threads == 1)


def team_for(
    model: Sequential, x: Any, rows: int, n_threads: int | None, *, training: bool, lasts: bool = False
) -> Any:
    """A team of the asked size, or of all cores if that is less; by default one thread where a second does not pay.

    `rows` of x go through together; `lasts` says that the team makes many steps of so many rows.
    """
    work = lowering.row_nanoseconds(model, x.shape[1:]) * rows * (lowering.TRAINING_WORK if training else 1.0)
    worth = WORK_WORTH_STEP + WORK_WORTH_BYTE * model.parameters.nbytes if lasts else WORK_WORTH_CALL
    return kernels.team.Team(team_size(n_threads, automatic_many=work >= worth), may_be_fewer=True)
