"""Pictures of trainings and models, drawn by matplotlib: ``pip install "fastfnn[plot]"``.

>>> ff.plot.history(history).savefig("history.png")

Every function returns a `matplotlib.figure.Figure`. A notebook shows it where it is a cell's last value; without a
screen, `savefig` writes it. The figures are not known to pyplot, so that nothing collects them, no window opens, and
``plt.show()`` passes over them. For a window, draw into axes of pyplot's with ``ax=``, where a function takes it, or
hand the figure over with ``plt.figure(figure)`` (matplotlib 3.11 or newer). With ``ax=`` the figure of these axes is
returned.

matplotlib is imported when the first picture is drawn.
"""

from __future__ import annotations

from fastfnn.plot.classes import confusion_matrix, decision_boundary, mistakes
from fastfnn.plot.curves import history, lr_find
from fastfnn.plot.parameters import filters, weights

__all__ = ["confusion_matrix", "decision_boundary", "filters", "history", "lr_find", "mistakes", "weights"]
