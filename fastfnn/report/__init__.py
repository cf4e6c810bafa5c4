"""The report of a training: one HTML page that holds all it shows, for a browser or a printer.

>>> pictures = report.draw(model, history, x_test, y_test)
>>> text = report.page(model, history, x_test, y_test, title="My first network", pictures=pictures)
>>> Path("report.html").write_text(text, encoding="utf-8")
"""

from __future__ import annotations

from fastfnn.report.page import page
from fastfnn.report.pictures import Picture, draw

__all__ = ["Picture", "draw", "page"]
