"""Numbers that are none: where data hold NaN or infinity.

Nobody looks for them in advance, for that would be another pass over the data: a loss or a parameter that is no longer
finite tells of them, since every kernel hands NaN on. Validation data, which are few, are looked through before.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn.engine.sparsity import CSR
from fastfnn.engine.task import Pass
from fastfnn.errors import InvalidValueError, NonFiniteDataError, NonFiniteLossError
from fastfnn.history import History

Array = NDArray[Any]
#: Elements that are looked at together: they stay in a cache.
CHUNK = 1 << 16
EXPECTED = "expected finite numbers. Leave such rows out, or fill the gaps with a mean or a median first"


def has_nan(out: Array) -> bool:
    """Whether there is a NaN in an array of floats, at the price of one product."""
    return math.isnan(np.vdot(out, out))  # squares: infinities of both signs do not make one


def _first(flat: Array) -> int | None:
    """The place of the first element that is not finite."""
    if flat.dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, CHUNK):
            part = flat[start : start + CHUNK]
            if not math.isfinite(np.dot(part, part)):  # or too large to be squared
                wrong = ~np.isfinite(part)
                if wrong.any():
                    return start + int(wrong.argmax())
    return None


def _place(name: str, array: Array | CSR) -> str | None:
    """What to say of the first element that is not finite: ``x[17, 2] is nan``."""
    if isinstance(array, CSR):
        used = array.data[: array.starts[-1]]
        found = _first(used)
        if found is None:
            return None
        row = int(np.searchsorted(array.starts, found, "right")) - 1
        return f"{name}[{row}, {array.indices[found]}] is {used[found]}"
    found = _first(array.reshape(-1))
    if found is None:
        return None
    place = [int(i) for i in np.unravel_index(found, array.shape)]
    if array.shape[1:] == (1,):
        place = place[:1]  # it may have come without the second axis
    return f"{name}[{', '.join(map(str, place))}] is {array.reshape(-1)[found]}"


def described(data: Pass, prefix: str = "") -> str | None:
    """What to say of the first number in x or y that is not finite, or None."""
    found = _place(f"{prefix}x", data.x)
    return found if found or data.y is None else _place(f"{prefix}y", data.y)


def check(data: Pass, prefix: str = "") -> None:
    """Refuse data that hold NaN or infinity; `prefix` goes before their names."""
    found = described(data, prefix)
    if found:
        raise InvalidValueError(f"{found}; {EXPECTED}")


def diverged(
    data: Pass, happened: str, lr: float, *, epoch: int, step: int, history: History | None = None
) -> NonFiniteLossError:
    """The error of a training on `data` whose loss is no longer finite, with what would help."""
    found = described(data)
    if found:
        return NonFiniteDataError(f"{happened}. {found}; {EXPECTED}", epoch=epoch, step=step, history=history)
    advice = f"A smaller learning rate than {lr:g} or normalised inputs usually help."
    return NonFiniteLossError(f"{happened}. {advice}", epoch=epoch, step=step, history=history)
