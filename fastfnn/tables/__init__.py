"""Tables as people have them: read from files, and what a network gets of each of their columns.

`read_plain` needs no other package and takes plain numbers. Everything else is pandas': `read` reads a file as a
`Frame`, `fit` decides from the training's rows what becomes of each column, and `apply` does it. What was decided is
kept as plain data (`Column.to_json`), never as a pickle: that runs whatever code its writer put there, and a model's
settings travel from one person to another.
"""

from fastfnn.tables.columns import NUMBER, UNUSED, Column, described, of_names
from fastfnn.tables.fitting import apply, fit
from fastfnn.tables.formats import LABELS, is_table, label_place
from fastfnn.tables.frames import Frame, read
from fastfnn.tables.plain import NEEDS_PANDAS, has_pandas, read_plain

__all__ = [
    "LABELS",
    "NEEDS_PANDAS",
    "NUMBER",
    "UNUSED",
    "Column",
    "Frame",
    "apply",
    "described",
    "fit",
    "has_pandas",
    "is_table",
    "label_place",
    "of_names",
    "read",
    "read_plain",
]
