"""A small table for notebooks, in their own colours and type, whatever these are."""

from __future__ import annotations

import html
from collections.abc import Sequence

LINE = "border-bottom: 1px solid currentColor"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int], caption: str) -> str:
    """An element ``<table>``: text that comes in is escaped, leading blanks indent it.

    Parameters
    ----------
    header : of n texts
    rows : of n texts each
    words : columns that are to the left; the others hold numbers
    caption : below the table
    """
    lines = [_line("th", header, words, f"; {LINE}"), *(_line("td", row, words) for row in rows)]
    below = f'<caption style="caption-side: bottom; text-align: left; color: inherit">{html.escape(caption)}</caption>'
    return "\n".join(["<table>", below, *lines, "</table>"])


def _line(kind: str, cells: Sequence[str], words: Sequence[int], style: str = "") -> str:
    shown = []
    for column, cell in enumerate(cells):
        text, side = cell.lstrip(" "), "left" if column in words else "right"
        indent = f"; padding-left: {0.5 + 0.5 * (len(cell) - len(text)):g}em" if text != cell else ""
        shown.append(f'<{kind} style="text-align: {side}{indent}{style}">{html.escape(text)}</{kind}>')
    return f"<tr>{''.join(shown)}</tr>"
