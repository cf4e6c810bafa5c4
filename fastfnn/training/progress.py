"""What training shows while it runs: a bar in a terminal or notebook, a plain line an epoch in a log."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from fastfnn.history import shown_figure


def _format(values: dict[str, float]) -> str:
    """All figures, for a log."""
    parts = []
    for name, value in values.items():
        if not math.isnan(value):
            parts.append(f"{name} {value:.2%}" if "accuracy" in name else f"{name} {shown_figure(value)}")
    return ", ".join(parts)


def _brief(values: dict[str, float]) -> str:
    """The figures that fit beside a bar."""
    short = {"loss": "loss", "accuracy": "acc", "val_accuracy": "val"}
    metrics = [name for name in values if name.startswith("val_") and name not in ("val_loss", "val_accuracy")]
    short |= {name: name.removeprefix("val_") for name in metrics}
    shown = {name: values[name] for name in short if not math.isnan(values.get(name, math.nan))}
    figures = (f"{value:.1%}" if "accuracy" in name else shown_figure(value) for name, value in shown.items())
    return ", ".join(f"{short[name]} {figure}" for name, figure in zip(shown, figures, strict=True))


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


class Progress:
    """Shows epochs on stderr.

    Parameters
    ----------
    epochs, samples : int
        How many epochs, of how many samples each.
    enabled : bool
        False shows nothing.
    done : int
        Epochs that are over when it begins.
    """

    #: Seconds between refreshes of the bar.
    INTERVAL = 0.1

    def __init__(self, epochs: int, samples: int, enabled: bool, done: int = 0) -> None:
        self.epochs, self.samples, self.done = epochs, samples, done
        has_bar = enabled and (sys.stderr.isatty() or in_notebook())
        self._has_bar, self._lines = has_bar, enabled and not has_bar
        self._bar: Any = None
        self._next = 0.0
        self._pending = 0

    def begin(self) -> None:
        """Training begins, if it has not yet: what goes before, such as compiling, is not in the bar's rate."""
        if self._bar is not None or not self._has_bar:
            return
        # In notebooks, too: there a bar of ipywidgets, even where these are installed, is not in the saved page.
        from tqdm import tqdm

        self._bar = tqdm(
            total=self.epochs * self.samples,
            initial=self.done * self.samples,
            desc=f"epoch {self.done + 1}/{self.epochs}",
            unit=" samples",
            unit_scale=True,
            mininterval=0,
            miniters=1,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {rate_fmt}, {remaining} left{postfix}",
        )

    def step(self, epoch: int, rows: int, values: dict[str, float]) -> None:
        """`rows` samples of `epoch` (from 1) are done; `values` are the epoch's figures so far."""
        if self._bar is None:
            return
        self._pending = (epoch - 1) * self.samples + rows - self._bar.n
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self.INTERVAL
            self._show(epoch, values)

    def end_epoch(self, epoch: int, seconds: float, values: dict[str, float]) -> None:
        """`epoch` (from 1) is done."""
        if self._bar is not None:
            self._show(epoch, values)
        elif self._lines:
            rate = self.samples / seconds if seconds else 0.0
            print(
                f"epoch {epoch}/{self.epochs}: {_format(values)}, {seconds:.2f} s, {rate:,.0f} samples/s",
                file=sys.stderr,
            )

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _show(self, epoch: int, values: dict[str, float]) -> None:
        self._bar.set_description_str(f"epoch {epoch}/{self.epochs}", refresh=False)
        self._bar.set_postfix_str(_brief(values), refresh=False)
        if self._pending:
            self._bar.update(self._pending)
        else:
            self._bar.refresh()
        self._pending = 0
