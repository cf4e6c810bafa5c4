"""The history of a training for other programs: as a CSV file, and for TensorBoard."""

from __future__ import annotations

import math
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fastfnn._paths import StrPath, as_path
from fastfnn.history import History
from fastfnn.training.callbacks.base import EpochCallback, EpochEnd
from fastfnn_kernels._files import write_in_one_step


def check_folder(path: Path) -> None:
    """Refuse a path in a folder that does not exist before anything is trained."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path is {str(path)!r}; there is no such folder")


class CSVLogger(EpochCallback):
    """Writes the whole history after each epoch, so that the file always equals it, also in a resumed training.

    The columns are ``epoch`` and those that the history has. Numbers have all their digits; NaN is an empty field.

    Parameters
    ----------
    path : str or path
        Replaced in one step: a reader sees the old file or the new.

    Raises
    ------
    FileNotFoundError
        When a training begins: there is no such folder.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = as_path(path, "path")

    def begin(self) -> None:
        check_folder(self.path)

    def __call__(self, end: EpochEnd) -> None:
        write_in_one_step(self.path, as_csv(end.history).encode())

    def config(self) -> dict[str, Any]:
        return {"path": str(self.path)}


def as_csv(history: History) -> str:
    """A line of names, then one for each epoch."""
    columns = {name: values for name, values in history.columns().items() if values}
    lines = [",".join(["epoch", *columns])]
    for epoch, figures in enumerate(zip_longest(*columns.values(), fillvalue=math.nan), 1):
        lines.append(",".join([str(epoch), *("" if math.isnan(x) else repr(float(x)) for x in figures)]))
    return "\n".join(lines) + "\n"


class TensorBoard(EpochCallback):
    """Writes the figures of each epoch as scalars of the history's names.

    It needs tensorboardX, or else PyTorch with tensorboard. A training that is resumed goes on in the log: what it
    had of later epochs is hidden.

    Parameters
    ----------
    log_dir : str or path
        One for each training; made where there is none.

    Raises
    ------
    ImportError
        Neither package is installed.
    """

    def __init__(self, log_dir: StrPath) -> None:
        self.log_dir = as_path(log_dir, "log_dir")
        self._make_writer = _summary_writer()
        self._writer: Any = None

    def begin(self) -> None:
        self._close()

    def __call__(self, end: EpochEnd) -> None:
        if self._writer is None:
            # TensorBoard hides what the log has from this step on: a training that was not resumed, or died later.
            # A file's name says only the second; the suffix keeps one that was begun in the same.
            suffix = f".{end.epoch:06}"
            self._writer = self._make_writer(str(self.log_dir), purge_step=end.epoch, filename_suffix=suffix)
        for name, value in end.history.last().items():
            if not math.isnan(value):
                self._writer.add_scalar(name, value, end.epoch)
        self._writer.flush()

    def finish(self, end: EpochEnd) -> None:
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def config(self) -> dict[str, Any]:
        return {"log_dir": str(self.log_dir)}


def _summary_writer() -> Any:
    """The class that writes TensorBoard's files."""
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

        return SummaryWriter
    except ImportError:
        pass
    try:
        from torch.utils.tensorboard import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"TensorBoard needs tensorboardX (`pip install tensorboardX`), or torch and tensorboard: {error}"
        ) from None
    return SummaryWriter
