"""Rows of a table, looked up by the numbers in some columns of a row, and put into some columns of another."""

from __future__ import annotations

from typing import Annotated

from fastfnn_kernels import embedding as kernels
from fastfnn_kernels.operations._data import data_row, refuse_row
from fastfnn_kernels.operations._fields import Array, Count, Known, Place, Setting, all_rows, array, rows
from fastfnn_kernels.operations._registry import by_shares, operation

Table = Annotated[Array, array("entries", "dim")]

_look_up, _entry_of = kernels.look_up.inlined, kernels.entry_of


@operation
def look_up(
    out: Annotated[Array, rows("columns")],
    x: Annotated[Array, rows("features")],
    weight: Table,
    first: Count,
    column: Count,
    lookups: Count,
    place: Place,
) -> None:
    """Each thread its rows; one with a number that names no row of the table is refused."""
    for i in range(x.shape[0]):
        for k in range(lookups):
            if _entry_of(x[i, column + k], weight.shape[0]) < 0:
                refuse_row(place, data_row(place, place.first + i))
    _look_up(out, weight, x, first, column, lookups, 0, 1)


# The table's gradient; or, where it `keeps` what is there and alpha is -lr, the SGD step of the rows that occur.
by_shares(
    kernels.look_up_backward,
    out=Table,
    grad_out=all_rows("columns"),
    x=all_rows("features"),
    first=Count,
    column=Count,
    lookups=Count,
    alpha=Setting,
    accumulate=Known("place.adds != 0 or record.keeps != 0", ("keeps",)),
)
