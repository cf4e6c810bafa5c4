"""A model as a table: its layers, what they make, and how many parameters they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fastfnn import _html
from fastfnn._text import shortened
from fastfnn.layers import Layer, Linear
from fastfnn.layers.base import Shape
from fastfnn.layers.containers import branches_of


class Row(NamedTuple):
    """What is shown of a layer: its place, its `repr` (indented within another), the shape that it makes, parameters.

    `made` is the shape of a sample, as words; `output` has the batch axis, too.
    """

    place: str
    layer: str
    output: str
    parameters: str
    made: str = ""


HEADER = Row("", "layer", "output", "parameters")
#: So many letters of a layer are shown at least, and in a notebook at most.
LEAST, MOST = 16, 72


def rows(layers: Mapping[str, Layer], shape: Shape | None, place: str = "") -> list[Row]:
    """A row for each of the layers that follow each other; those within one come below it.

    `shape` is that of a sample; where it is None, outputs are known from the first `Linear` on.
    """
    found: list[Row] = []
    for at, layer in layers.items():
        came = shape
        if shape is None and isinstance(layer, Linear):
            shape = (layer.in_features,)
        shape = layer.output_shape(shape) if shape is not None else None
        inner = list(branches_of(layer, f"{place}{at}."))
        settings = ", ".join(f"{name}={value!r}" for name, value in layer.config().items())
        name = f"{type(layer).__name__}({settings})" if inner else repr(layer)
        held = [layer] if inner else [each for _, each in layer.family()]
        count, frozen = sum(a.size for each in held for a in each.params.values()), "" if layer.learns else " frozen"
        output = "?" if shape is None else str(("n", *shape)).replace("'", "")
        made = "" if shape is None else " × ".join(map(str, shape))
        indent, counted = "  " * place.count("."), f"{count:,}{frozen}" if count else ""
        found.append(Row(f"{place}{at}", indent + name, output, counted, made))
        for own, branch, prefix in inner:
            found += rows(branch, own or came, prefix)
    return found


def as_text(found: list[Row], last: str, width: int) -> str:
    """Lines of at most `width` letters, if `LEAST` of each layer fit in: of longer ones the middle is left out."""
    lines = [HEADER, *found]
    widths = [max(len(row[column]) for row in lines) for column in range(4)]
    widths[1] = min(widths[1], max(LEAST, width - sum(widths) + widths[1] - 6))
    shown = [
        f"{a:>{widths[0]}}  {shortened(b, widths[1]):<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip()
        for a, b, c, d, _ in lines
    ]
    rule = "-" * (sum(widths) + 6)
    return "\n".join([shown[0], rule, *shown[1:], rule, last])


def as_html(found: list[Row], last: str) -> str:
    """The same for a notebook; without outputs where none is known."""
    columns = (0, 1, 3) if all(row.output == "?" for row in found) else (0, 1, 2, 3)
    shown = [row._replace(layer=shortened(row.layer, MOST)) for row in found]
    header, body = [HEADER[i] for i in columns], [[row[i] for i in columns] for row in shown]
    return _html.table(header, body, (0, 1, columns.index(2) if 2 in columns else 1), last)
