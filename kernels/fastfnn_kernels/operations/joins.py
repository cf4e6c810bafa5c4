"""Where branches meet: kernels, each on its thread's rows."""

from __future__ import annotations

from fastfnn_kernels import joins
from fastfnn_kernels.operations._fields import Count, Flag, rows
from fastfnn_kernels.operations._registry import by_rows

FLAT, PART, WHOLE = rows("width", axes=1), rows("width"), rows("columns")

by_rows(joins.add, out=FLAT, a=FLAT, b=FLAT, relu=Flag)
by_rows(joins.put_columns, out=WHOLE, x=PART, first=Count)
by_rows(joins.take_columns, out=PART, x=WHOLE, first=Count, width=Count)
