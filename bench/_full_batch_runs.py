"""The exercise's runs, what it printed, and what a run of ours records."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import fastfnn as ff

EPSILON = 1e-12
EPOCHS, IMAGES = 50, 60_000  # the exercise's
#: Test accuracies whose first reaching is timed.
GOALS = (0.9, 0.97)
#: Loss and accuracy at some point of a run.
Pair = tuple[float, float]


class Exercise(NamedTuple):
    """One run of the exercise: its settings, and what it printed, by epoch (-1: the test set at the end)."""

    title: str
    source: str
    hidden: type[ff.Layer]
    batch_size: int | None
    lr: float
    normalised: bool
    printed: dict[int, Pair]


PRINTED_FULL = {0: (24.12, 0.105), 25: (9.28, 0.607), 49: (3.779, 0.805), -1: (3.480, 0.819)}
PRINTED_MINI = {0: (9.74, 0.641), 15: (6.26, 0.771), -1: (6.05, 0.778)}
DRAW_1, DRAW_2 = {0: (23.90, 0.103), 15: (14.45, 0.430)}, {0: (8.10, 0.098), 15: (2.62, 0.365)}
EXERCISES = (
    Exercise("ReLU, full batch", "exercise_full_batch", ff.ReLU, None, 1e-5, False, PRINTED_FULL),
    Exercise("ReLU, full batch, another draw", "notebook_matrix_calculus", ff.ReLU, None, 1e-5, False, DRAW_1),
    Exercise("sigmoid, full batch", "notebook_sigmoid", ff.Sigmoid, None, 1e-5, False, DRAW_2),
    Exercise("ReLU, minibatch 64", "notebook_minibatch", ff.ReLU, 64, 1e-3, True, PRINTED_MINI),
)


@dataclass
class Run:
    """What a training was and did. Losses are means over images, also where the gradient is that of a sum."""

    title: str
    settings: dict[str, Any]
    samples: int
    updates: int = 0
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    train_after: Pair | None = None
    stopped: str | None = None
    source: str | None = None
    printed: dict[int, Pair] = field(default_factory=dict)

    @property
    def total_seconds(self) -> float:
        return math.fsum(self.seconds)

    @property
    def samples_per_second(self) -> float | None:
        return self.samples * len(self.seconds) / self.total_seconds if self.seconds else None

    def reached(self, accuracy: float) -> tuple[int, float] | None:
        """Epochs and seconds until the test accuracy was first `accuracy`."""
        epochs = next((i for i, value in enumerate(self.test_accuracy, 1) if value >= accuracy), None)
        return None if epochs is None else (epochs, math.fsum(self.seconds[:epochs]))

    def figures(self, epoch: int) -> Pair | None:
        """Training loss and accuracy of an epoch, from 0; of the test set for -1; None where it was not reached."""
        if epoch == -1:
            return (self.test_loss[-1], self.test_accuracy[-1]) if self.test_loss else None
        return (self.loss[epoch], self.accuracy[epoch]) if epoch < len(self.loss) else None

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        derived = {
            "epochs": len(self.loss),
            "total_seconds": self.total_seconds,
            "samples_per_second": self.samples_per_second,
            "test_after": self.figures(-1),
            "epochs_and_seconds_to_test_accuracy": {f"{goal}": self.reached(goal) for goal in GOALS},
        }
        printed = {"test" if epoch < 0 else f"epoch {epoch}": pair for epoch, pair in self.printed.items()}
        return finite({**vars(self), "printed": printed, **derived})


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null instead."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
